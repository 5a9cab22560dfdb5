/* The figure of the schedule lab: curves over time, noise at the left, and what the switch says of them. */
(function () {
  "use strict";

  const fixed = (x) => x.toFixed(1);
  const line = (xs, ys) => "M" + xs.map((x, i) => `${fixed(x)},${fixed(ys[i])}`).join("L");
  const text = (x, y, words, rest = "") => `<text x="${fixed(x)}" y="${fixed(y)}" ${rest}>${words}</text>`;
  const INK = "#2a6f97";
  const SWITCH = '<g class="switch"/>';
  const dark = (colour) => parseInt(colour.slice(3, 5), 16) < 150;

  /* Return what draws a view into the lab's card. `colours`: of the bands, by their number less one. */
  ScheduleLab.figure = function (lab, colours) {
    const $ = (selector) => lab.querySelector(selector);
    const $$ = (selector) => [...lab.querySelectorAll(selector)];
    let view = null;
    let drawing = null; // the curves of that view on a grid of times

    /* Draw axes into an svg: time, noise at the left and image at the right, and values with ticks [value, words]. */
    function axes(
      svg,
      { height, top = 10, bottom = 24, margin = 34, right = 10, low, high, ticks, count = 5, labels },
    ) {
      const width = svg.parentElement.clientWidth;
      const inner = width - margin - right;
      const { end } = view.schedule;
      const x = (t) => margin + inner * (1 - t / end);
      const y = (value) => top + (height - top - bottom) * (1 - (value - low) / (high - low));
      svg.geometry = { width, height, margin, inner, x, y, top, floor: height - bottom };
      svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      const times = Array.from({ length: count + 1 }, (_, i) => (end * i) / count);
      const word = (t) => (count === 5 && end <= 1 ? t.toFixed(1) : String(Number(t.toFixed(2))));
      const marks = times.map(
        (t) =>
          `<path class="tick" d="M${fixed(x(t))},${height - bottom}v4"/>` +
          text(x(t), height - bottom + 16, word(t), 'text-anchor="middle"'),
      );
      const values = ticks.map(
        ([value, words]) =>
          `<path class="tick" d="M${margin},${fixed(y(value))}h-4"/>` +
          text(margin - 7, y(value) + 3.5, words, 'text-anchor="end"'),
      );
      const frame = `<path class="axis" d="M${margin},${top}V${height - bottom}H${margin + inner}"/>`;
      const upwards = `transform="rotate(-90) translate(${-(top + height - bottom) / 2} 11)"`;
      const words = labels
        ? text(margin + inner / 2, height - 5, labels.x, 'text-anchor="middle" class="label"') +
          text(0, 0, labels.y, `${upwards} text-anchor="middle" class="label"`)
        : "";
      return frame + marks.join("") + values.join("") + words;
    }

    const LABELS = {
      x: 'time <tspan font-style="italic">t</tspan>&#160; (noise on the left, image on the right)',
      y: "share of generated signal",
    };
    const tenths = (high) =>
      Array.from({ length: Math.floor(high / 0.2 + 1e-9) + 1 }, (_, i) => [0.2 * i, (0.2 * i).toFixed(1)]);

    /* Names at the peaks; where these crowd together the names climb a staircase, each on a thin line from its peak. */
    function peakNames({ x, y, margin, inner }, { times, shares, names, ink }) {
      const placed = [];
      const apart = (a, b) => Math.max(a.left - b.left - b.wide, b.left - a.left - a.wide);
      const meets = (a, b) => apart(a, b) < 10 && Math.abs(a.foot - b.foot) < 14;
      return shares.map((share, m) => {
        const peak = share.indexOf(Math.max(...share));
        const [at, own] = [x(times[peak]), y(share[peak])];
        const wide = 7 * names[m].length;
        const left = Math.min(Math.max(at - wide / 2, margin + 3), margin + inner - wide);
        const name = { at, left, wide, foot: own - 4, climbs: false };
        const last = placed[m - 1];
        const stairs = last?.climbs && last.at - at < 30; // a step above the last name, not beside it
        if (stairs || placed.some((other) => meets(name, other))) {
          Object.assign(name, { left: at + 3, climbs: true });
          if (stairs) name.foot = Math.min(name.foot, last.foot - 15);
          while (placed.some((other) => meets(name, other))) name.foot -= 3;
        }
        placed.push(name);
        const stem = `<path d="M${fixed(at)},${fixed(own)}V${fixed(name.foot)}" stroke="${ink[m]}"/>`;
        const words = text(name.left, name.foot, names[m], `style="fill:${ink[m]}" class="name"`);
        return { top: name.foot - 13, markup: (name.climbs ? stem : "") + words };
      });
    }

    /* One curve for each band, with a pale fill. */
    function lines({ x, y, floor }, { times, shares, ink }) {
      const xs = times.map(x);
      const ground = `L${fixed(xs[xs.length - 1])},${floor}L${fixed(xs[0])},${floor}Z`;
      const paths = shares.map((share, m) => {
        const path = line(xs, share.map(y));
        const pale = `<path d="${path}${ground}" style="fill:${ink[m]}" class="pale"/>`;
        return `${pale}<path d="${path}" stroke="${ink[m]}" class="curve"/>`;
      });
      return paths.join("");
    }

    /* One area for each band, a single pixel at the bottom as everywhere, named where there is room. */
    function areas({ x, y }, { times, shares, names, ink }) {
      const xs = times.map(x);
      const painted = [];
      const named = [];
      let floor = times.map(() => 0);
      for (let m = shares.length - 1; m >= 0; m--) {
        const low = floor;
        const roof = shares[m].map((share, i) => low[i] + share);
        const outline = line([...xs, ...xs.toReversed()], [...roof, ...low.toReversed()].map(y));
        painted.push(`<path d="${outline}Z" style="fill:${ink[m]}" class="area"/>`);
        const widest = shares[m].indexOf(Math.max(...shares[m]));
        const middle = (low[widest] + roof[widest]) / 2;
        const holds = (i) => low[i] < middle && middle < roof[i];
        let [from, to] = [widest, widest]; // the stretch of the band at this height
        while (holds(from - 1)) from--;
        while (holds(to + 1)) to++;
        const style = `text-anchor="middle" style="fill:${dark(ink[m]) ? "#fff" : "#222"}" class="name"`;
        if (xs[to] - xs[from] > 7.5 * names[m].length && y(low[widest]) - y(roof[widest]) > 16)
          named.push(text((xs[from] + xs[to]) / 2, y(middle) + 4, names[m], style));
        floor = roof;
      }
      return [...painted, ...named].join("");
    }

    function drawShares(svg) {
      const stacked = view.view === "stacked";
      const high = stacked ? 1 : 1.12 * Math.max(0.1, ...drawing.shares.flat());
      const sizes = { height: lab.clientWidth < 560 ? 250 : 300, top: 8, bottom: 42, margin: 50, right: 14 };
      const settings = { ...sizes, low: 0, high, ticks: tenths(high), labels: LABELS };
      let frame = axes(svg, settings);
      if (stacked) {
        svg.innerHTML = areas(svg.geometry, drawing) + frame + SWITCH;
        return;
      }
      let labels = peakNames(svg.geometry, drawing);
      const over = Math.min(...labels.map(({ top }) => top));
      if (over < 0) {
        frame = axes(svg, { ...settings, height: settings.height - over, top: settings.top - over });
        labels = peakNames(svg.geometry, drawing);
      }
      svg.innerHTML = frame + lines(svg.geometry, drawing) + labels.map(({ markup }) => markup).join("") + SWITCH;
    }

    function drawClock(svg, curves, settings) {
      const frame = axes(svg, { height: 138, count: 2, ...settings });
      const { x, y } = svg.geometry;
      const xs = drawing.times.map(x);
      const inside = (value) => y(Math.min(Math.max(value, settings.low), settings.high));
      const paths = curves.map(([values, colour]) => {
        return `<path d="${line(xs, values.map(inside))}" stroke="${colour}" class="curve"/>`;
      });
      svg.innerHTML = frame + paths.join("") + SWITCH;
      svg.dot = (value, colour) =>
        `<circle cx="${fixed(x(view.t))}" cy="${fixed(inside(value))}" r="3.5" style="fill:${colour}"/>`;
    }

    function drawCurves(curves) {
      const { schedule, bands, levels, size } = view;
      const times = ScheduleLab.grid(schedule, ScheduleLab.POINTS);
      const alpha = times.map(schedule.alpha);
      const columns = alpha.map((each) => ScheduleLab.shares(each, bands));
      const shares = bands.map((_, m) => columns.map((column) => column[m]));
      const tau = bands.map((_, m) => times.map((t) => schedule.tau(t, m)));
      drawing = { curves, times, shares, names: ScheduleLab.bandNames(size, levels), ink: colours[levels] };
      drawShares($("#lab-shares"));
      const marks = (values) => values.map((value) => [value, String(Number(value.toFixed(2)))]);
      const power = (exponent) => [exponent, `10<tspan dy="-4" font-size="8">${exponent < 0 ? "−4" : "4"}</tspan>`];
      const snr = times.map((t) => schedule.logSnr(t) / Math.LN10);
      const { end } = schedule;
      drawClock($("#lab-alpha"), [[alpha, INK]], { low: 0, high: 1, ticks: marks([0, 0.5, 1]) });
      drawClock($("#lab-snr"), [[snr, INK]], { low: -5, high: 5, ticks: [power(-4), [0, "1"], power(4)] });
      const clocks = tau.map((values, m) => [values, drawing.ink[m]]).reverse();
      drawClock($("#lab-tau"), clocks, { low: 0, high: end, ticks: marks([0, end / 2, end]) });
      const rows = drawing.names.map(
        (name, m) => `<tr><th scope="row" style="color:${drawing.ink[m]}">${name}</th>
      <td class="lab-kept"><span class="lab-bar"><span style="background:${drawing.ink[m]}"></span></span>
        <span></span></td>
      <td></td><td></td></tr>`,
      );
      $("tbody").innerHTML = rows.join("");
    }

    const power = (_, minus, digits) => `×10<sup>${minus && "−"}${digits}</sup>`;
    const brief = (x) => {
      if (x === Infinity) return "∞";
      if (x === 0 || (x >= 0.001 && x < 1000)) return String(Number(x.toPrecision(3)));
      return x.toExponential(1).replace(/e\+?(-?)(\d+)/, power);
    };
    const time = (t) => (String(t).length > 7 ? t.toPrecision(4) : String(t));

    function drawSwitch() {
      const { schedule, bands, t } = view;
      const [alpha, noise] = [schedule.alpha(t), schedule.alpha(schedule.end)];
      const kept = ScheduleLab.kept(alpha, bands, noise);
      const now = ScheduleLab.shares(alpha, bands);
      const tau = bands.map((_, m) => schedule.tau(t, m));
      const dots = {
        shares: [],
        alpha: [[alpha, INK]],
        snr: [[schedule.logSnr(t) / Math.LN10, INK]],
        tau: tau.map((each, m) => [each, drawing.ink[m]]).reverse(),
      };
      for (const [name, values] of Object.entries(dots)) {
        const svg = $(`#lab-${name}`);
        const { x, top, floor } = svg.geometry;
        const rule = `d="M${fixed(x(t))},${top}V${floor}"/>`;
        const points = values.map(([value, colour]) => svg.dot(value, colour)).join("");
        svg.querySelector(".switch").innerHTML = `<path class="halo" ${rule}<path class="rule" ${rule}${points}`;
      }
      $("#lab-alpha-now").innerHTML = brief(alpha);
      $("#lab-snr-now").innerHTML = brief(schedule.snr(t));

      $$("tbody tr").forEach((row, m) => {
        const [bar, share, clock] = row.querySelectorAll("td");
        bar.querySelector(".lab-bar span").style.width = `${100 * kept[m]}%`;
        bar.lastElementChild.textContent = `${(100 * kept[m]).toFixed(1)} %`;
        share.textContent = now[m].toFixed(3);
        clock.textContent = tau[m].toFixed(3);
      });
      const coarser = drawing.names.map((_, m) => Math.min(...kept.slice(m)));
      const first = coarser.findIndex((least) => least >= 0.95);
      const keeps = first === drawing.names.length - 1 ? " keeps" : " and coarser keep";
      const named = first === 0 ? "every band keeps" : `${drawing.names[first]}${keeps}`;
      const who = first < 0 ? "no band keeps" : named;
      $("#lab-title").textContent = `Switched at t = ${time(t)}, ${who} 95 % of the first prompt`;
    }

    /* Draw a view: all of it, or the switch alone where the curves stand already. */
    function draw(shown, anew) {
      view = shown;
      const curves = ScheduleLab.address({ ...view, t: 0, steps: 0, equal: "" }); // all that they depend on
      if (anew || drawing?.curves !== curves) drawCurves(curves);
      drawSwitch();
    }

    return draw;
  };
})();
