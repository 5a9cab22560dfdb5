/* The page of the schedule lab: its fields, its figure, and what can be copied. The numbers come from `ScheduleLab`. */
(function () {
  "use strict";

  const lab = document.getElementById("lab");
  lab.append(document.getElementById("lab-page").content.cloneNode(true));
  const { photographs, colours, meanings } = JSON.parse(document.getElementById("lab-data").textContent);
  const $ = (selector) => lab.querySelector(selector);
  const $$ = (selector) => [...lab.querySelectorAll(selector)];

  let texts = ScheduleLab.texts(location.hash.includes("=") ? location.hash : ""); // every setting, as typed
  let view = null; // the same, read: the last that made sense
  let drawing = null; // curves of that view on its grid
  let waiting = 0; // until the address is written

  // ---- fields -------------------------------------------------------------------------------------------------------

  const option = (value, words) => `<option value="${value}">${words}</option>`;

  function field(name, { usual, low, high, log }) {
    const slide = log ? [Math.log(low), Math.log(high)] : [low, high];
    return `<div class="lab-field" data-field="${name}">
      <label for="lab-${name}"><code>${name}</code> <small>${meanings[name]}</small></label>
      <div class="lab-pair">
        <input type="range" data-slides="${name}" aria-label="${name}, slider" min="${slide[0]}" max="${slide[1]}"
          step="any" data-log="${log ? 1 : ""}" data-usual="${usual}">
        <input type="text" id="lab-${name}" name="${name}" autocomplete="off" spellcheck="false"
          aria-describedby="lab-${name}-error"></div>
      <p class="lab-error" id="lab-${name}-error" role="status"></p></div>`;
  }

  const parametersOf = (name) => (ScheduleLab.SCHEDULES[name] || { parameters: {} }).parameters;

  /* Show the fields that the schedule and the spectrum need, filled with the settings as they were typed. */
  function showFields() {
    const name = texts.schedule ?? "cosine";
    const box = $(".lab-parameters");
    if (box.dataset.of !== name) {
      box.dataset.of = name;
      box.innerHTML = Object.entries(parametersOf(name)).map(([key, settings]) => field(key, settings)).join("");
    }
    const size = Number(texts.size ?? 64);
    const deepest = ScheduleLab.SIZES.includes(size) ? ScheduleLab.depth(size) : 0;
    const names = ScheduleLab.bandNames(size, deepest);
    const levels = Array.from({ length: deepest }, (_, i) => option(deepest - i, `${deepest - i}, down to ${names[deepest - i]}`));
    if ($("#lab-levels").children.length !== deepest) $("#lab-levels").innerHTML = levels.join("");
    $("[data-field=variances]").hidden = texts.spectrum !== "pasted";
    const usual = { schedule: "cosine", size: 64, levels: deepest, spectrum: "paper", variances: "", steps: 27, equal: "error" };
    usual.t = view ? view.schedule.end / 2 : 0.5;
    for (const [key, { usual: value }] of Object.entries(parametersOf(name))) usual[key] = value;
    for (const [key, value] of Object.entries(usual)) {
      const input = $(`#lab-${key}`);
      if (input !== document.activeElement || input.tagName === "SELECT") input.value = texts[key] ?? value;
    }
    for (const slider of $$("[data-slides]")) {
      const value = Number(texts[slider.dataset.slides] ?? slider.dataset.usual);
      slider.value = slider.dataset.log ? Math.log(value) : value;
      slider.setAttribute("aria-valuetext", String(value));
    }
    for (const radio of $$("[name=view]")) radio.checked = radio.value === (texts.view ?? "lines");
  }

  function showProblem(problem) {
    for (const error of $$(".lab-error")) error.textContent = "";
    for (const input of $$("[aria-invalid]")) input.removeAttribute("aria-invalid");
    lab.classList.toggle("lab-stale", problem !== null);
    if (problem === null) return;
    ($(`#lab-${problem.field}-error`) || $("#lab-schedule-error")).textContent = problem.message;
    $(`#lab-${problem.field}`)?.setAttribute("aria-invalid", "true");
  }

  /* Take changed settings (undefined: the usual value) and show what they say. */
  function change(changes) {
    const before = view;
    texts = Object.fromEntries(Object.entries({ ...texts, ...changes }).filter(([, value]) => value !== undefined));
    let problem = null;
    try {
      view = ScheduleLab.read(texts, photographs);
    } catch (error) {
      if (!error.field) throw error;
      problem = error;
    }
    showFields();
    showProblem(problem);
    clearTimeout(waiting); // browsers refuse many changes of the address in a row
    if (problem) return;
    if (!before || "t" !== Object.keys(changes).join()) drawCurves();
    drawSwitch();
    showText();
  }

  const inSchedule = (end, part) => (part === 0.5 ? undefined : String(round(part * end, end)));
  const round = (t, end) => Number(t.toFixed(end > 1 ? 2 : 3));

  lab.addEventListener("input", ({ target }) => {
    const { name, value } = target;
    const part = view ? view.t / view.schedule.end : 0.5;
    if (target.dataset.slides) {
      const chosen = target.dataset.log ? Math.exp(target.value) : Number(target.value);
      change({ ...moved(target.dataset.slides, chosen), [target.dataset.slides]: String(Number(chosen.toPrecision(3))) });
    } else if (target.id === "lab-switch") {
      change({ t: String(round(Number(value), view.schedule.end)) });
    } else if (name === "schedule") {
      const none = Object.fromEntries(Object.keys(parametersOf(texts.schedule ?? "cosine")).map((key) => [key, undefined]));
      change({ ...none, schedule: value, t: inSchedule(value === "natural" ? 12 : 1, part) });
    } else if (name === "size") {
      const fewer = texts.levels && Number(texts.levels) < ScheduleLab.depth(Number(value));
      change({ size: value, levels: fewer ? texts.levels : undefined });
    } else if (name === "levels") {
      change({ levels: value === String(ScheduleLab.depth(Number(texts.size ?? 64))) ? undefined : value });
    } else if (name === "spectrum") {
      const start = view && value === "pasted" && !texts.variances;
      change({ spectrum: value, ...(start && { variances: view.bands.map(({ power }) => power).join(", ") }) });
    } else if (name) {
      change({ ...moved(name, Number(value)), [name]: value });
    }
  });

  /* When the natural schedule is shown to another time, the switch stays where it is in the figure. */
  const moved = (name, end) =>
    name === "until" && end > 0 && view ? { t: inSchedule(end, view.t / view.schedule.end) } : {};

  lab.addEventListener("change", ({ target }) => target.name && showFields());
  $("form").addEventListener("submit", (event) => event.preventDefault());

  // ---- the switch: a slider above the figure, and the figure itself -------------------------------------------------

  function moveTo(t) {
    const { end } = view.schedule;
    const there = round(Math.min(Math.max(t, 0), end), end);
    if (there !== view.t) change({ t: String(there) });
  }

  $("#lab-switch").addEventListener("keydown", (event) => {
    const { end } = view.schedule;
    const step = (event.shiftKey ? 0.1 : 0.01) * end;
    const by = { ArrowLeft: step, ArrowDown: step, ArrowRight: -step, ArrowUp: -step, PageDown: 0.1 * end, PageUp: -0.1 * end };
    const to = { Home: end, End: 0 };
    if (!(event.key in by) && !(event.key in to)) return;
    event.preventDefault();
    moveTo(event.key in to ? to[event.key] : view.t + by[event.key]);
  });

  for (const svg of $$(".lab-card svg")) {
    const follow = (event) => {
      const { left, width } = svg.getBoundingClientRect();
      const { inner, margin } = svg.geometry;
      moveTo(view.schedule.end * (1 - ((event.clientX - left) * (svg.geometry.width / width) - margin) / inner));
    };
    svg.addEventListener("pointerdown", (event) => {
      svg.setPointerCapture(event.pointerId);
      follow(event);
    });
    svg.addEventListener("pointermove", (event) => svg.hasPointerCapture(event.pointerId) && follow(event));
  }

  // ---- drawing ------------------------------------------------------------------------------------------------------

  const fixed = (x) => x.toFixed(1);
  const line = (xs, ys) => "M" + xs.map((x, i) => `${fixed(x)},${fixed(ys[i])}`).join("L");
  const text = (x, y, words, rest = "") => `<text x="${fixed(x)}" y="${fixed(y)}" ${rest}>${words}</text>`;
  const dark = (colour) => parseInt(colour.slice(3, 5), 16) < 150;

  /* Draw axes into an svg: time from noise at the left to image at the right, and values with ticks [value, words]. */
  function axes(svg, { height, top = 10, bottom = 24, margin = 34, right = 10, low, high, ticks, count = 5, labels }) {
    const width = svg.parentElement.clientWidth;
    const inner = width - margin - right;
    const { end } = view.schedule;
    const x = (t) => margin + inner * (1 - t / end);
    const y = (value) => top + (height - top - bottom) * (1 - (value - low) / (high - low));
    svg.geometry = { width, height, margin, inner, x, y, top, floor: height - bottom };
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const times = Array.from({ length: count + 1 }, (_, i) => (end * i) / count);
    const word = (t) => String(Number(t.toFixed(2)));
    const marks = times.map((t) => `<path class="tick" d="M${fixed(x(t))},${height - bottom}v4"/>`
      + text(x(t), height - bottom + 16, word(t), 'text-anchor="middle"'));
    const values = ticks.map(([value, words]) => `<path class="tick" d="M${margin},${fixed(y(value))}h-4"/>`
      + text(margin - 7, y(value) + 3.5, words, 'text-anchor="end"'));
    const frame = `<path class="axis" d="M${margin},${top}V${height - bottom}H${margin + inner}"/>`;
    const middle = `transform="rotate(-90) translate(${-(top + height - bottom) / 2} 11)" text-anchor="middle" class="label"`;
    const words = labels ? text(margin + inner / 2, height - 5, labels.x, 'text-anchor="middle" class="label"') + text(0, 0, labels.y, middle) : "";
    return frame + marks.join("") + values.join("") + words;
  }

  const LABELS = {
    x: 'time <tspan font-style="italic">t</tspan>&#160; (noise on the left, image on the right)',
    y: "share of generated signal",
  };
  const tenths = (high) => Array.from({ length: Math.floor(high / 0.2 + 1e-9) + 1 }, (_, i) => [0.2 * i, (0.2 * i).toFixed(1)]);

  /* Names at the peaks; where these crowd together the names climb a staircase, each on a thin line from its peak. */
  function peakNames({ x, y }, times, shares, names, ink) {
    let [last, height] = [Infinity, 0];
    return shares.map((share, m) => {
      const peak = share.indexOf(Math.max(...share));
      const [at, own] = [x(times[peak]), y(share[peak])];
      const crowded = last - at < 48;
      height = crowded ? Math.min(own, height - 15) : own;
      last = at;
      const anchor = crowded || peak === 0 ? "start" : peak === times.length - 1 ? "end" : "middle";
      const stem = height < own ? `<path d="M${fixed(at)},${fixed(own)}V${fixed(height)}" stroke="${ink[m]}"/>` : "";
      const words = text(at + (anchor === "start" ? 3 : 0), height - 4, names[m],
        `text-anchor="${anchor}" style="fill:${ink[m]}" class="name"`);
      return { top: height - 14, markup: stem + words };
    });
  }

  function drawShares(svg, { times, shares, names, ink }) {
    const tall = lab.clientWidth < 560 ? 250 : 300;
    const stacked = view.view === "stacked";
    const high = stacked ? 1 : 1.12 * Math.max(0.1, ...shares.flat());
    const settings = { height: tall, top: 8, bottom: 42, margin: 50, right: 14, low: 0, high, ticks: tenths(high), labels: LABELS };
    let frame = axes(svg, settings);
    const { x, y } = svg.geometry;
    const xs = times.map(x);
    if (stacked) {
      let floor = times.map(() => 0);
      const areas = shares.map((_, i) => shares.length - 1 - i).map((m) => { // one pixel at the bottom, as everywhere
        const roof = shares[m].map((share, i) => floor[i] + share);
        const widest = shares[m].indexOf(Math.max(...shares[m]));
        const middle = (floor[widest] + roof[widest]) / 2;
        const holds = (i) => floor[i] < middle && middle < roof[i];
        let [from, to] = [widest, widest]; // the stretch of the band at this height
        while (holds(from - 1)) from--;
        while (holds(to + 1)) to++;
        const room = xs[to] - xs[from] > 7.5 * names[m].length && y(floor[widest]) - y(roof[widest]) > 16;
        const area = `<path d="${line([...xs, ...xs.slice().reverse()], [...roof.map(y), ...floor.map(y).reverse()])}Z"
          style="fill:${ink[m]}" class="area"/>`;
        floor = roof;
        return [area, room ? text((xs[from] + xs[to]) / 2, y(middle) + 4, names[m],
          `text-anchor="middle" style="fill:${dark(ink[m]) ? "#fff" : "#222"}" class="name"`) : ""];
      });
      svg.innerHTML = areas.map(([area]) => area).join("") + areas.map(([, name]) => name).join("") + frame + '<g class="switch"/>';
      return;
    }
    let labels = peakNames(svg.geometry, times, shares, names, ink);
    const over = Math.min(...labels.map(({ top }) => top));
    if (over < 0) {
      frame = axes(svg, { ...settings, height: tall - over, top: 8 - over });
      labels = peakNames(svg.geometry, times, shares, names, ink);
    }
    const curves = shares.map((share, m) => {
      const path = line(xs, share.map(svg.geometry.y));
      const floor = `L${fixed(xs[xs.length - 1])},${svg.geometry.floor}L${fixed(xs[0])},${svg.geometry.floor}Z`;
      return `<path d="${path}${floor}" style="fill:${ink[m]}" class="pale"/><path d="${path}" stroke="${ink[m]}" class="curve"/>`;
    });
    svg.innerHTML = frame + curves.join("") + labels.map(({ markup }) => markup).join("") + '<g class="switch"/>';
  }

  function drawClock(svg, curves, settings) {
    const frame = axes(svg, { height: 138, count: 2, ...settings });
    const { x, y } = svg.geometry;
    const xs = drawing.times.map(x);
    const bounded = (value) => Math.min(Math.max(value, settings.low), settings.high);
    const paths = curves.map(([values, colour]) => `<path d="${line(xs, values.map((v) => y(bounded(v))))}" stroke="${colour}" class="curve"/>`);
    svg.innerHTML = frame + paths.join("") + '<g class="switch"/>';
    svg.at = (values) => values.map(([value, colour]) => `<circle cx="${fixed(x(view.t))}" cy="${fixed(y(bounded(value)))}" r="3.5" style="fill:${colour}"/>`).join("");
  }

  const INK = "#2a6f97";

  function drawCurves() {
    const { schedule, bands, levels, size } = view;
    const times = ScheduleLab.grid(schedule, ScheduleLab.POINTS);
    const alpha = times.map(schedule.alpha);
    const columns = alpha.map((each) => ScheduleLab.shares(each, bands));
    const shares = bands.map((_, m) => columns.map((column) => column[m]));
    const tau = bands.map((_, m) => times.map((t) => schedule.tau(t, m)));
    drawing = { times, alpha, shares, tau, names: ScheduleLab.bandNames(size, levels), ink: colours[levels] };
    drawShares($("#lab-shares"), drawing);
    drawClock($("#lab-alpha"), [[alpha, INK]], { low: 0, high: 1, ticks: [[0, "0"], [0.5, "0.5"], [1, "1"]] });
    const powers = [-4, 0, 4].map((power) => [power, power ? `10<tspan dy="-4" font-size="8">${power < 0 ? "−4" : "4"}</tspan>` : "1"]);
    drawClock($("#lab-snr"), [[times.map((t) => schedule.logSnr(t) / Math.LN10), INK]], { low: -5, high: 5, ticks: powers });
    const { end } = schedule;
    const ticks = [0, end / 2, end].map((t) => [t, String(Number(t.toFixed(2)))]);
    drawClock($("#lab-tau"), tau.map((values, m) => [values, drawing.ink[m]]).reverse(), { low: 0, high: end, ticks });
    const rows = drawing.names.map((name, m) => `<tr><th scope="row" style="color:${drawing.ink[m]}">${name}</th>
      <td class="lab-kept"><span class="lab-bar"><span style="background:${drawing.ink[m]}"></span></span><span></span></td>
      <td></td><td></td></tr>`);
    $("tbody").innerHTML = rows.join("");
  }

  const brief = (x) => (x === Infinity ? "∞" : x === 0 || (x >= 0.001 && x < 1000) ? String(Number(x.toPrecision(3)))
    : x.toExponential(1).replace(/e\+?(-?)(\d+)/, (_, minus, power) => `×10<sup>${minus && "−"}${power}</sup>`));
  const time = (t) => String(t).length > 7 ? t.toPrecision(4) : String(t);

  function drawSwitch() {
    const { schedule, bands, t } = view;
    const [alpha, noise] = [schedule.alpha(t), schedule.alpha(schedule.end)];
    const kept = ScheduleLab.kept(alpha, bands, noise);
    const now = ScheduleLab.shares(alpha, bands);
    const tau = bands.map((_, m) => schedule.tau(t, m));
    for (const svg of $$(".lab-card svg")) {
      const { x, top, floor } = svg.geometry;
      const rule = `<path class="halo" d="M${fixed(x(t))},${top}V${floor}"/><path class="rule" d="M${fixed(x(t))},${top}V${floor}"/>`;
      svg.querySelector(".switch").innerHTML = rule;
    }
    const dots = { alpha: [[alpha, INK]], snr: [[schedule.logSnr(t) / Math.LN10, INK]], tau: tau.map((each, m) => [each, drawing.ink[m]]).reverse() };
    for (const [name, values] of Object.entries(dots)) {
      const svg = $(`#lab-${name}`);
      svg.querySelector(".switch").innerHTML += svg.at(values);
    }
    $("#lab-alpha-now").innerHTML = brief(alpha);
    $("#lab-snr-now").innerHTML = brief(schedule.snr(t));

    const slider = $("#lab-switch");
    const { margin, inner, width } = $("#lab-shares").geometry;
    Object.assign(slider, { min: 0, max: schedule.end });
    slider.value = t;
    slider.setAttribute("aria-valuetext", `t = ${time(t)}`);
    lab.style.setProperty("--lab-left", `${margin}px`);
    lab.style.setProperty("--lab-right", `${width - margin - inner}px`);
    const passed = 1 - t / schedule.end;
    lab.style.setProperty("--lab-passed", `${100 * passed}%`);
    $$(".lab-ribbon span").forEach((part, i) => part.classList.toggle("lab-narrow", (i ? 1 - passed : passed) * inner < 120));

    $$("tbody tr").forEach((row, m) => {
      const [bar, share, clock] = row.querySelectorAll("td");
      bar.querySelector(".lab-bar span").style.width = `${100 * kept[m]}%`;
      bar.lastElementChild.textContent = `${(100 * kept[m]).toFixed(1)} %`;
      share.textContent = now[m].toFixed(3);
      clock.textContent = tau[m].toFixed(3);
    });
    const coarser = drawing.names.map((_, m) => Math.min(...kept.slice(m)));
    const first = coarser.findIndex((least) => least >= 0.95);
    const who = first < 0 ? "no band keeps" : first === 0 ? "every band keeps"
      : `${drawing.names[first]}${first === drawing.names.length - 1 ? " keeps" : " and coarser keep"}`;
    $("#lab-title").textContent = `Switched at t = ${time(t)}, ${who} 95 % of the first prompt`;
  }

  // ---- text to copy, and the address --------------------------------------------------------------------------------

  function showText() {
    $("#lab-python").textContent = ScheduleLab.python(view);
    $("#lab-timesteps").textContent = ScheduleLab.timestepList(view);
    waiting = setTimeout(writeAddress, 150);
  }

  function writeAddress() {
    const hash = ScheduleLab.address(view);
    history.replaceState(history.state, "", location.pathname + location.search + (hash && `#${hash}`));
    $("#lab-link").value = location.href;
  }

  for (const button of $$("[data-copies]")) {
    const usual = button.innerHTML;
    button.addEventListener("click", async () => {
      const source = $(button.dataset.copies);
      try {
        await navigator.clipboard.writeText(source.value ?? source.textContent);
        button.textContent = "copied";
      } catch {
        getSelection().selectAllChildren(source);
        source.select?.();
        button.textContent = "press Ctrl+C";
      }
      setTimeout(() => (button.innerHTML = usual), 1500);
    });
  }

  addEventListener("hashchange", () => {
    if (!location.hash.includes("=")) return;
    texts = {};
    change(ScheduleLab.texts(location.hash));
  });

  $("#lab-schedule").innerHTML = Object.keys(ScheduleLab.SCHEDULES).map((name) => option(name, name)).join("");
  $("#lab-size").innerHTML = ScheduleLab.SIZES.map((size) => option(size, `${size}x${size}`)).join("");
  const asked = texts;
  texts = {};
  change({}); // what is usual, so that an address that says nonsense still has a figure behind its message
  change(asked);

  let seen = lab.clientWidth;
  new ResizeObserver(() => {
    if (lab.clientWidth === seen) return;
    seen = lab.clientWidth;
    drawCurves();
    drawSwitch();
  }).observe(lab);
})();
