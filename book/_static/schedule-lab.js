/* The page of the schedule lab: its fields, its switch, and what can be copied. */
(function () {
  "use strict";

  const lab = document.getElementById("lab");
  lab.append(document.getElementById("lab-page").content.cloneNode(true));
  const { photographs, colours, meanings } = JSON.parse(document.getElementById("lab-data").textContent);
  const draw = ScheduleLab.figure(lab, colours);
  const $ = (selector) => lab.querySelector(selector);
  const $$ = (selector) => [...lab.querySelectorAll(selector)];

  let texts = ScheduleLab.texts(location.hash.includes("=") ? location.hash : ""); // every setting, as typed
  let view = null; // the same, read: the last that made sense
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

  const parametersOf = (name) =>
    Object.hasOwn(ScheduleLab.SCHEDULES, name) ? ScheduleLab.SCHEDULES[name].parameters : {};

  /* Show the fields that the schedule and the spectrum need, filled with the settings as they were typed. */
  function showFields() {
    const name = texts.schedule ?? "cosine";
    const box = $(".lab-parameters");
    if (box.dataset.of !== name) {
      box.dataset.of = name;
      box.innerHTML = Object.entries(parametersOf(name))
        .map(([key, settings]) => field(key, settings))
        .join("");
    }
    const size = Number(texts.size ?? 64);
    const deepest = ScheduleLab.SIZES.includes(size) ? ScheduleLab.depth(size) : 0;
    const names = ScheduleLab.bandNames(size, deepest);
    const levels = Array.from({ length: deepest }, (_, i) =>
      option(deepest - i, `${deepest - i}, down to ${names[deepest - i]}`),
    );
    if ($("#lab-levels").children.length !== deepest) $("#lab-levels").innerHTML = levels.join("");
    $("[data-field=variances]").hidden = texts.spectrum !== "pasted";
    const usual = {
      schedule: "cosine",
      size: 64,
      levels: deepest,
      spectrum: "paper",
      variances: "",
      steps: 27,
      equal: "error",
    };
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
    draw(view);
    showSwitch();
    showText();
  }

  const inSchedule = (end, part) => (part === 0.5 ? undefined : String(round(part * end, end)));
  const round = (t, end) => Number(t.toFixed(end > 1 ? 2 : 3));

  lab.addEventListener("input", ({ target }) => {
    const { name, value } = target;
    const part = view ? view.t / view.schedule.end : 0.5;
    if (target.dataset.slides) {
      const chosen = target.dataset.log ? Math.exp(target.value) : Number(target.value);
      change({
        ...moved(target.dataset.slides, chosen),
        [target.dataset.slides]: String(Number(chosen.toPrecision(3))),
      });
    } else if (target.id === "lab-switch") {
      change({ t: String(round(Number(value), view.schedule.end)) });
    } else if (name === "schedule") {
      const none = Object.fromEntries(
        Object.keys(parametersOf(texts.schedule ?? "cosine")).map((key) => [key, undefined]),
      );
      change({ ...none, schedule: value, t: inSchedule(parametersOf(value).until?.usual ?? 1, part) });
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

  /* Put the slider over the time axis of the figure. */
  function showSwitch() {
    const { t, schedule } = view;
    const slider = $("#lab-switch");
    const { margin, inner, width } = $("#lab-shares").geometry;
    Object.assign(slider, { min: 0, max: schedule.end });
    slider.value = t;
    slider.setAttribute("aria-valuetext", `t = ${t}`);
    lab.style.setProperty("--lab-left", `${margin}px`);
    lab.style.setProperty("--lab-right", `${width - margin - inner}px`);
    const passed = 1 - t / schedule.end;
    lab.style.setProperty("--lab-passed", `${100 * passed}%`);
    $$(".lab-ribbon span").forEach((part, i) =>
      part.classList.toggle("lab-narrow", (i ? 1 - passed : passed) * inner < 120),
    );
  }

  function moveTo(t) {
    const { end } = view.schedule;
    const there = round(Math.min(Math.max(t, 0), end), end);
    if (there !== view.t) change({ t: String(there) });
  }

  $("#lab-switch").addEventListener("keydown", (event) => {
    const { end } = view.schedule;
    const step = (event.shiftKey ? 0.1 : 0.01) * end;
    const by = {
      ArrowLeft: step,
      ArrowDown: step,
      ArrowRight: -step,
      ArrowUp: -step,
      PageDown: 0.1 * end,
      PageUp: -0.1 * end,
    };
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

  $("#lab-schedule").innerHTML = Object.keys(ScheduleLab.SCHEDULES)
    .map((name) => option(name, name))
    .join("");
  $("#lab-size").innerHTML = ScheduleLab.SIZES.map((size) => option(size, `${size}x${size}`)).join("");
  const asked = texts;
  texts = {};
  change({}); // what is usual, so that an address that says nonsense still has a figure behind its message
  change(asked);

  let seen = lab.clientWidth;
  new ResizeObserver(() => {
    if (lab.clientWidth === seen) return;
    seen = lab.clientWidth;
    draw(view, true);
    showSwitch();
  }).observe(lab);
})();
