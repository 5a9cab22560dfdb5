/* The numbers of the schedule lab: what reschrom computes in Python, computed here, and nothing drawn.
   A plain script, because pages opened from a disk may not load modules. It defines `ScheduleLab`, in node too. */
(function (root) {
  "use strict";

  // ---- functions that lose nothing to rounding near the image or near pure noise -----------------------------------

  const softplus = (x) => (x > 0 ? x + Math.log1p(Math.exp(-x)) : Math.log1p(Math.exp(x)));
  const logaddexp = (a, b) => (a === b ? a + Math.LN2 : Math.max(a, b) + Math.log1p(Math.exp(-Math.abs(a - b))));
  const sigmoid = (x) => Math.exp(-softplus(-x));
  const logSinh = (x) => x + Math.log(-Math.expm1(-2 * x)); // of 2 sinh(x), x of 0 or more
  const clip = (x, low, high) => Math.min(Math.max(x, low), high);

  /* From s(t) = -log alpha(t), the natural time of Eq. (35), and its inverse. */
  const fromExponent = (exponent, time) => ({
    logSnr: (t) => -exponent(t) - Math.log(-Math.expm1(-exponent(t))),
    timeAt: (logSnr) => time(softplus(-logSnr)),
  });

  // ---- the schedules of reschrom.Schedule: each parameter has its usual value and the range of its slider -----------

  const grows = ({ beta_start: a, beta_end: b }) => 0 < a && a < b;
  const rates = "beta_start and beta_end must be positive and grow";

  const SCHEDULES = {
    cosine: {
      parameters: { s: { usual: 0.008, low: 0, high: 0.2 } },
      fits: ({ s }) => s >= 0,
      rule: "s must be 0 or more",
      make({ s }) {
        const u0 = ((s / (1 + s)) * Math.PI) / 2;
        const quarter = Math.PI / 2 / (1 + s);
        const [sin0, cos0] = [Math.sin(u0), Math.cos(u0)];
        return {
          logSnr(t) {
            const v = quarter * t;
            const [signal, noise] = [Math.sin(quarter * (1 - t)), Math.sin(v)];
            return 2 * Math.log(signal) - Math.log(noise) - Math.log(Math.sin(v + 2 * u0));
          },
          timeAt(logSnr) {
            const [signal, noise] = [-1, 1].map((sign) => Math.exp(-softplus(sign * logSnr) / 2));
            const [cosU, sinU] = [signal * cos0, Math.hypot(sin0, noise * cos0)];
            const larger = sinU * cos0 + cosU * sin0;
            const sinV = noise * cos0 ** 2 * (noise / (larger > 0 ? larger : 1));
            return Math.atan2(sinV, cosU * cos0 + sinU * sin0) / quarter;
          },
        };
      },
    },
    linear: {
      parameters: {
        beta_start: { usual: 0.1, low: 0.001, high: 10, log: true },
        beta_end: { usual: 20, low: 1, high: 100, log: true },
      },
      fits: grows,
      rule: rates,
      make({ beta_start: a, beta_end: b }) {
        const d = b - a;
        return fromExponent(
          (t) => (a + 0.5 * d * t) * t,
          (s) => (2 * s) / (a + Math.sqrt(a * a + 2 * d * s)),
        );
      },
    },
    scaled_linear: {
      parameters: {
        beta_start: { usual: 0.85, low: 0.001, high: 10, log: true },
        beta_end: { usual: 12, low: 1, high: 100, log: true },
      },
      fits: grows,
      rule: rates,
      make({ beta_start, beta_end }) {
        const a = Math.sqrt(beta_start);
        const d = Math.sqrt(beta_end) - a;
        return fromExponent(
          (t) => (a * a + (a + (d * t) / 3) * d * t) * t,
          (s) => {
            const rootOf = (a ** 3 + 3 * d * s) ** (1 / 3);
            return (3 * s) / (rootOf * rootOf + a * rootOf + a * a);
          },
        );
      },
    },
    sigmoid: {
      parameters: {
        start: { usual: -3, low: -10, high: 2 },
        end: { usual: 3, low: -2, high: 10 },
        temperature: { usual: 1, low: 0.05, high: 5, log: true },
      },
      fits: ({ start, end, temperature }) => start < end && temperature > 0,
      rule: "start must be less than end, and temperature positive",
      make({ start, end, temperature }) {
        const [a, b] = [start / temperature, end / temperature];
        const w = (b - a) / 2;
        const coshRatio = logaddexp(a / 2, -a / 2) - logaddexp(b / 2, -b / 2);
        const logSinhW = w + Math.log(-Math.expm1(-2 * w));
        return {
          logSnr: (t) => logSinh(w * (1 - t)) - logSinh(w * t) + coshRatio,
          timeAt: (logSnr) => softplus(logSinhW - logaddexp(-w, logSnr - coshRatio)) / (2 * w),
        };
      },
    },
    flow_matching: {
      parameters: { shift: { usual: 1, low: 0.1, high: 20, log: true } },
      fits: ({ shift }) => shift > 0,
      rule: "shift must be positive",
      make: ({ shift }) => ({
        logSnr: (t) => 2 * (Math.log1p(-t) - Math.log(shift * t)),
        timeAt: (logSnr) => sigmoid(-logSnr / 2 - Math.log(shift)),
      }),
    },
    natural: {
      parameters: { until: { usual: 12, low: 2, high: 20 } }, // it never ends: the last time that is shown
      fits: ({ until }) => until > 0,
      rule: "until must be positive",
      make: () =>
        fromExponent(
          (t) => t,
          (s) => s,
        ),
    },
  };

  /* A schedule with every parameter given: alpha, snr, the inverse timeAt, and the adjusted time tau of Eq. (16). */
  function makeSchedule(name, settings) {
    const { logSnr, timeAt } = SCHEDULES[name].make(settings);
    const end = name === "natural" ? settings.until : 1;
    const last = name === "natural" ? Infinity : 1;
    return {
      name,
      settings,
      end,
      logSnr,
      alpha: (t) => sigmoid(logSnr(t)),
      snr: (t) => Math.exp(logSnr(t)),
      tau: (t, level) => clip(timeAt(logSnr(t) + level * Math.log(4)), 0, last),
    };
  }

  // ---- bands --------------------------------------------------------------------------------------------------------

  const SIZES = [8, 16, 32, 64, 128, 256];
  const depth = (size) => Math.round(Math.log2(size));
  const bandNames = (size, levels) => Array.from({ length: levels + 1 }, (_, m) => `${size >> m}x${size >> m}`);
  const bandSizes = (levels) =>
    Array.from({ length: levels + 1 }, (_, m) => (m < levels ? 0.75 * 4 ** (levels - m) : 1));

  /* Variances of fewer bands: the last one takes in all that is coarser, each coefficient once. */
  function merged(variances, levels) {
    const sizes = bandSizes(variances.length - 1).slice(levels);
    const energy = variances.slice(levels).reduce((sum, variance, i) => sum + sizes[i] * variance, 0);
    return [...variances.slice(0, levels), energy / sizes.reduce((a, b) => a + b)];
  }

  /* Variance and weight of every band; without variances those of the paper, 4^m and 1. */
  function bandsOf(levels, variances) {
    const powers = variances || Array.from({ length: levels + 1 }, (_, m) => 4 ** m);
    const sizes = bandSizes(levels);
    return powers.map((power, m) => ({ power, weight: variances ? sizes[m] * power : 1 }));
  }

  /* r_m of Eq. (18) at one signal power: `chromatography`. */
  function shares(alpha, bands) {
    const rate = bands.map(({ power, weight }) => (weight * power) / (power * alpha + (1 - alpha)) ** 2);
    const total = rate.reduce((a, b) => a + b);
    return rate.map((each) => each / total);
  }

  /* The share of all that each band gains between the noise and the image that it has gained at a signal power:
     a ratio of `generated_signal`, and 1 - `predicted_share`. */
  const kept = (alpha, bands, noise) =>
    bands.map(({ power }) => (power * (alpha - noise)) / ((power * alpha + (1 - alpha)) * (1 - noise)));

  /* Times, noise first, in equal steps. */
  const grid = (schedule, count) =>
    Array.from({ length: count }, (_, i) => (schedule.end * (count - 1 - i)) / (count - 1));

  /* The times at which `steps` steps begin, noise first, each with an equal part of the signal that is generated or of
     the error of DDIM: `designed_timesteps` on a thousand intervals. Every band's signal counts 1 in all; the last step
     ends in the image. */
  function designedTimesteps(schedule, bands, steps, equal) {
    const times = grid(schedule, 1001).reverse();
    const noise = schedule.alpha(schedule.end);
    const signal = times.map((t) => kept(schedule.alpha(t), bands, noise).reduce((a, b) => a + b) / bands.length);
    const logSnr = times.map(schedule.logSnr);
    const done = [0];
    for (let i = 0; i < 1000; i++) {
      const gained = signal[i] - signal[i + 1];
      const width = (logSnr[i] - logSnr[i + 1]) / 2;
      const finite = Number.isFinite(width) ? width : i === 0 ? 2 : 0;
      done.push(done[i] + (equal === "signal" ? gained : Math.sqrt(Math.max(gained, 0) * finite)));
    }
    return Array.from({ length: steps }, (_, k) => {
      if (k === 0) return schedule.end;
      const wanted = (1 - k / steps) * done[1000];
      const i = done.findIndex((each) => each > wanted);
      return times[i - 1] + ((times[i] - times[i - 1]) * (wanted - done[i - 1])) / (done[i] - done[i - 1]);
    });
  }

  /* The same as whole timesteps of a thousand, of which timestep i is t = (i + 1) / 1000; none comes twice. */
  function wholeTimesteps(times) {
    const whole = times.map((t) => clip(Math.round(1000 * t) - 1, 0, 999));
    for (let k = 1; k < whole.length; k++) whole[k] = Math.min(whole[k], whole[k - 1] - 1);
    for (let k = whole.length - 1, least = 0; k >= 0; k--, least++) whole[k] = Math.max(whole[k], least);
    return whole;
  }

  // ---- settings: text from the fields or from the address, read once -----------------------------------------------

  class Wrong extends Error {
    constructor(field, expected, got) {
      super(`${expected}; got ${got === "" ? "nothing" : got}`);
      this.field = field;
    }
  }

  function number(texts, field, usual, fits, expected) {
    const text = String(texts[field] ?? usual).trim();
    const value = Number(text);
    if (text === "" || !Number.isFinite(value) || !fits(value)) throw new Wrong(field, expected, text);
    return value;
  }

  function choice(texts, field, options, expected) {
    const text = String(texts[field] ?? options[0]);
    if (!options.includes(text)) throw new Wrong(field, expected || `${field} must be ${options.join(" or ")}`, text);
    return text;
  }

  function pasted(text, levels) {
    // The file of `reschrom spectrum`, or a plain list.
    const filed = [...text.matchAll(/"variance":\s*([^\s,}]+)/g)].map((found) => found[1]);
    const listed = text.replace(/[[\]()]/g, " ").split(/[\s,;]+/);
    const words = (filed.length ? filed : listed).filter(Boolean);
    const values = words.map(Number);
    const expected = `expected ${levels + 1} positive numbers, finest band first`;
    const odd = words.find((_, i) => !(values[i] > 0 && values[i] < Infinity));
    if (odd !== undefined) throw new Wrong("variances", expected, odd);
    if (values.length === levels + 1) return values;
    throw new Wrong("variances", expected, values.length ? String(values.length) : "");
  }

  /* Turn settings as text into a view, each missing one at its usual value. `photographs`: variances by size.
     Throws an error that names the field. */
  function read(texts, photographs) {
    const names = Object.keys(SCHEDULES);
    const name = choice(texts, "schedule", names, `schedule must be one of ${names.join(", ")}`);
    const { parameters, fits, rule, make } = SCHEDULES[name];
    const settings = {};
    for (const [key, { usual }] of Object.entries(parameters))
      settings[key] = number(texts, key, usual, () => true, `${key} must be a number`);
    const given = Object.keys(parameters).filter((key) => key in texts);
    const culprit = given.find((key) => !fits({ ...defaults(name), [key]: settings[key] })) || given[0];
    if (!fits(settings)) throw new Wrong(culprit, rule, Object.values(settings).join(", "));
    const schedule = makeSchedule(name, settings);
    if ([0.01, 0.5, 0.99].some((part) => !(Math.abs(make(settings).logSnr(part * schedule.end)) < 1e4)))
      throw new Wrong(
        given[0],
        "these numbers leave a curve that a computer cannot hold",
        Object.values(settings).join(", "),
      );

    const size = Number(
      choice({ size: 64, ...texts }, "size", SIZES.map(String), `size must be one of ${SIZES.join(", ")}`),
    );
    const most = depth(size);
    const whole = (value) => Number.isInteger(value) && value >= 1;
    const levels = number(
      texts,
      "levels",
      most,
      (value) => whole(value) && value <= most,
      `levels must be 1 to ${most}`,
    );
    const spectrum = choice(texts, "spectrum", ["paper", "photographs", "pasted"]);
    let variances = null;
    if (spectrum === "photographs") variances = merged(photographs[size], levels);
    if (spectrum === "pasted") variances = pasted(String(texts.variances ?? ""), levels);
    const inside = (value) => value >= 0 && value <= schedule.end;
    const t = number(texts, "t", schedule.end / 2, inside, `t must be a time from 0 to ${schedule.end}`);
    const few = (value) => whole(value) && value <= 1000;
    const steps = number(texts, "steps", 27, few, "steps must be a whole number from 1 to 1000");
    const equal = choice(texts, "equal", ["error", "signal"]);
    const view = choice(texts, "view", ["lines", "stacked"]);
    return { schedule, size, levels, spectrum, variances, bands: bandsOf(levels, variances), t, steps, equal, view };
  }

  const defaults = (name) =>
    Object.fromEntries(Object.entries(SCHEDULES[name].parameters).map(([key, { usual }]) => [key, usual]));

  /* The part of the address after #, without what is usual: short to share, and it reads back to the same view. */
  function address(view) {
    const { schedule, bands, variances, ...chosen } = view;
    const usual = {
      ...defaults(schedule.name),
      size: 64,
      levels: depth(view.size),
      spectrum: "paper",
      t: schedule.end / 2,
    };
    Object.assign(usual, { steps: 27, equal: "error", view: "lines" });
    const others = Object.entries({ ...schedule.settings, ...chosen }).filter(([key, value]) => value !== usual[key]);
    const named = schedule.name === "cosine" ? [] : [["schedule", schedule.name]];
    const last = view.spectrum === "pasted" ? [["variances", variances.join(",")]] : [];
    return [...named, ...others, ...last]
      .map(([key, value]) => `${key}=${value}`)
      .join("&")
      .replaceAll("+", "");
  }

  const texts = (hash) => Object.fromEntries(new URLSearchParams(hash.replace(/^#/, "")));

  // ---- text to copy -------------------------------------------------------------------------------------------------

  const float = (x) => (/[.e]/.test(String(x)) ? String(x) : `${x}.0`);
  const POINTS = 501;

  /* Python that computes what is shown. */
  function python({ schedule, size, levels, spectrum, variances, t }) {
    const { until, ...settings } = schedule.settings;
    const call = Object.entries(settings)
      .map(([key, value]) => `${key}=${float(value)}`)
      .join(", ");
    const names = { paper: "the paper's variances 4^m", photographs: "photographs", pasted: "your own" };
    const end = float(schedule.end);
    return [
      "import numpy as np",
      "from reschrom import Schedule, chromatography, generated_signal, matched_time",
      "",
      `schedule = Schedule.${schedule.name}(${call})`,
      `levels = ${levels}  # bands ${bandNames(size, levels)[0]} to ${bandNames(size, levels)[levels]}`,
      `spectrum = ${variances ? `[${variances.map(float).join(", ")}]` : "None"}  # ${names[spectrum]}, finest first`,
      `t = np.linspace(${end}, 0.0, ${POINTS})  # from noise to image`,
      "alpha, snr = schedule.alpha(t), schedule.snr(t)",
      "shares = chromatography(alpha, levels, spectrum)  # r_m, one row for each band",
      "tau = [matched_time(schedule, t, m) for m in range(levels + 1)]",
      "",
      `noise, switch, image = schedule.alpha(np.array([${end}, ${float(t)}, 0.0]))`,
      "signal = lambda alpha: generated_signal(alpha, levels, spectrum, since=noise)",
      "kept = signal(switch) / signal(image)  # of each band, what is decided before the switch",
    ].join("\n");
  }

  function list(name, words) {
    const lines = [];
    for (const word of words) {
      if (lines.length && lines[lines.length - 1].length + word.length < 76) lines[lines.length - 1] += ` ${word},`;
      else lines.push(`    ${word},`);
    }
    return `${name} = [\n${lines.join("\n")}\n]`;
  }

  /* The designed timesteps in the form that a diffusers pipeline with this schedule takes. */
  function timestepList(view) {
    const times = designedTimesteps(view.schedule, view.bands, view.steps, view.equal);
    const { name, settings } = view.schedule;
    const digits = times.map((t) => t.toFixed(6));
    if (name === "natural") return list("times", digits);
    // The scheduler applies its shift to the sigmas it is given, and t is sigma before the shift.
    if (name === "flow_matching")
      return `# for a scheduler with shift=${float(settings.shift)}\n${list("sigmas", digits)}`;
    return list("timesteps", wholeTimesteps(times).map(String));
  }

  root.ScheduleLab = {
    SCHEDULES,
    SIZES,
    POINTS,
    makeSchedule,
    depth,
    bandNames,
    merged,
    bandsOf,
    shares,
    kept,
    grid,
    designedTimesteps,
    wholeTimesteps,
    read,
    address,
    texts,
    python,
    timestepList,
  };
})(globalThis);
