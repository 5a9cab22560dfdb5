/* The page *Explore a run*: recorded steps of a model, moved through by a slider. It draws what `runs.js` holds and
   computes nothing but which frame is shown. A plain script, because pages opened from a disk may not load modules. */
(function () {
  "use strict";

  const MAP = { row: 24, left: 52, top: 4, narrowest: 300, widest: 640 };
  const PAUSE = 260; // milliseconds that a step is shown for
  /* Rows of a sheet: below these two, the estimate up to each resolution; the finest is the estimate itself. */
  const [NOISED, UNGUIDED, FINEST] = [0, 1, 2];

  /* Magma without its darkest and its lightest end, as the maps of `reschrom.plots`. */
  const MAGMA = ["#0f0a24", "#2f1160", "#5c187e", "#8c2981", "#b73779", "#de4968", "#f7705c", "#fe9f6d", "#fecf92", "#fcf6b8"];
  const VIRIDIS = ["#440154", "#46327e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#a0da39"];

  const mixed = (colours, share) => {
    const at = Math.min(Math.max(share, 0), 1) * (colours.length - 1);
    const [low, part] = [Math.min(Math.floor(at), colours.length - 2), at - Math.min(Math.floor(at), colours.length - 2)];
    const channel = (colour, place) => parseInt(colour.slice(1 + 2 * place, 3 + 2 * place), 16);
    const value = (place) => Math.round(channel(colours[low], place) * (1 - part) + channel(colours[low + 1], place) * part);
    return `rgb(${value(0)}, ${value(1)}, ${value(2)})`;
  };

  const element = (name, attributes, text) => {
    const svg = ["svg", "rect", "polyline", "text", "line"].includes(name);
    const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };

  function start(root, recorded) {
    const place = root.dataset.sheets;
    const steps = recorded.runs[0].timesteps.length;
    const levels = recorded.runs[0].guidance[0].length;
    const names = Array.from({ length: levels }, (_, level) => `${recorded.side >> level}x${recorded.side >> level}`);
    const rows = FINEST + levels;
    const find = (name) => root.querySelector(`[data-part="${name}"]`);
    const [choice, slider, play, says, map] = ["prompt", "step", "play", "says", "map"].map(find);

    const frames = [];
    const frame = (parent, row, caption, coloured) => {
      const figure = element("figure");
      const picture = element("div", { class: "explore-frame", role: "img" });
      picture.style.backgroundSize = `${100 * steps}% ${100 * rows}%`;
      figure.append(picture);
      let bar = null;
      if (coloured !== undefined) {
        const share = element("div", { class: "explore-share", "aria-hidden": "true" });
        bar = element("span");
        bar.style.background = coloured;
        share.append(bar);
        figure.append(share);
      }
      figure.append(element("figcaption", {}, caption));
      parent.append(figure);
      frames.push({ picture, row, caption, bar });
    };
    frame(find("large"), NOISED, "noised image");
    frame(find("large"), FINEST, "the model’s estimate of the picture in it");
    frame(find("large"), UNGUIDED, "its estimate without the prompt");
    for (let level = levels - 1; level >= 0; level -= 1) {
      const caption = level === levels - 1 ? names[level] : `+ ${names[level]}`;
      frame(find("bands"), FINEST + level, caption, mixed(VIRIDIS, (levels - 1 - level) / (levels - 1)));
    }
    recorded.runs.forEach((run, number) => choice.append(element("option", { value: number }, run.prompt)));
    slider.max = steps - 1;

    // As wide as the page was when it opened, so that the words of the map have their size on a phone, too.
    const wide = Math.min(Math.max(root.clientWidth, MAP.narrowest), MAP.widest);
    const height = MAP.row * levels;
    const column = (wide - MAP.left) / steps;
    map.setAttribute("viewBox", `0 0 ${wide} ${height + 2 * MAP.top}`);
    names.forEach((name, level) => {
      const y = MAP.top + MAP.row * (level + 0.5) + 4;
      map.append(element("text", { x: MAP.left - 6, y, "text-anchor": "end" }, name));
    });
    const cells = Array.from({ length: steps }, (_, step) =>
      names.map((_, level) => {
        const cell = element("rect", {
          x: MAP.left + step * column, y: MAP.top + MAP.row * level, width: column + 0.5, height: MAP.row + 0.5,
        });
        map.append(cell);
        return cell;
      }));
    const ridge = [["#1b1030", 5], ["#fff", 2.4]].map(([stroke, width]) => {
      const line = element("polyline", { fill: "none", stroke, "stroke-width": width, "stroke-linejoin": "round" });
      map.append(line);
      return line;
    });
    const cursor = element("rect", { y: MAP.top - 2, width: column, height: height + 4, fill: "none", stroke: "#3ad1ff", "stroke-width": 2.5 });
    map.append(cursor);

    const drawMap = (run) => {
      const points = run.guidance.map((shares, step) => {
        const largest = Math.max(...shares);
        shares.forEach((share, level) => cells[step][level].setAttribute("fill", mixed(MAGMA, share / largest)));
        const mean = shares.reduce((sum, share, level) => sum + share * level, 0);
        return `${MAP.left + (step + 0.5) * column},${MAP.top + MAP.row * (mean + 0.5)}`;
      });
      ridge.forEach((line) => line.setAttribute("points", points.join(" ")));
    };

    const show = () => {
      const [run, step] = [recorded.runs[Number(choice.value)], Number(slider.value)];
      const shares = run.guidance[step];
      for (const { picture, row, caption, bar } of frames) {
        picture.style.backgroundImage = `url("${place}/${run.sheet}")`;
        picture.style.backgroundPosition = `${(100 * step) / (steps - 1)}% ${(100 * row) / (rows - 1)}%`;
        picture.setAttribute("aria-label", `${caption}, step ${step + 1} of ${steps}, ${run.prompt}`);
        if (bar) bar.style.width = `${100 * shares[row - FINEST]}%`;
      }
      cursor.setAttribute("x", MAP.left + step * column);
      const most = shares.indexOf(Math.max(...shares));
      const [percent, told] = [Math.round(100 * shares[most]), run.nats[step]];
      says.textContent = `Step ${step + 1} of ${steps}, timestep ${run.timesteps[step]}. The prompt speaks most at ` +
        `${names[most]}: ${percent} % of the energy of guidance. So far this energy adds up to ${told.toFixed(1)} nats` +
        (told > recorded.possible ? `, more than the ${recorded.possible.toFixed(1)} that the choice of a prompt can tell.` : ".");
      slider.setAttribute("aria-valuetext", `step ${step + 1}, timestep ${run.timesteps[step]}, mostly ${names[most]}`);
    };

    let timer = null;
    const stop = () => { clearInterval(timer); timer = null; play.textContent = "play"; };
    play.addEventListener("click", () => {
      if (timer) return stop();
      if (Number(slider.value) === steps - 1) slider.value = 0;
      play.textContent = "pause";
      show();
      timer = setInterval(() => {
        slider.value = Number(slider.value) + 1;
        show();
        if (Number(slider.value) === steps - 1) stop();
      }, PAUSE);
    });
    slider.addEventListener("input", () => { stop(); show(); });
    choice.addEventListener("change", () => { drawMap(recorded.runs[Number(choice.value)]); show(); });
    const pointed = (event) => {
      if (event.type === "pointermove" && !event.buttons) return;
      const box = map.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * wide;
      slider.value = Math.floor((x - MAP.left) / column);
      stop();
      show();
    };
    map.addEventListener("pointerdown", pointed);
    map.addEventListener("pointermove", pointed);

    choice.value = 0;
    slider.value = Math.round(steps / 3);
    drawMap(recorded.runs[0]);
    show();
  }

  document.addEventListener("DOMContentLoaded", () => start(document.getElementById("explore"), RECORDED));
})();
