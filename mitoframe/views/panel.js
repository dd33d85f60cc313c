// The page's part of table.inspect(): it draws what views/strata.py laid out, and asks the kernel when somebody clicks.
//
// Above `render` are pure functions of columns, tested without a browser. Up to BARS_MAX files are SVG elements, more are
// painted on a canvas; either way the focus, the marks and the words lie above them in SVG. Nothing is fetched: the
// kernel is asked by messages (views/panel.py says which), and only while the widget can be seen.

const BARS_MAX = 400;
const WINDOWS_MAX = 300;
const SHADES = 5;
const OVERLAP_SHADES = [1, 2, 3, 5];
const MEMORY = -1;
const LEFT = 124, RIGHT = 12, TOP = 6, GAP = 10, AXIS = 24;
const LANES_HEIGHT = 230, LANE_MAX = 16, LANE_STABLE_MIN = 3, LEVEL_MIN = 18, BAR_MIN = 1.5;
const SVG = "http://www.w3.org/2000/svg";
const REFUSED_PAUSE = 10_000; // Milliseconds.
const SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE, DAY = 24 * HOUR, MIB = 1024 * 1024;
const TICK_STEPS = [
  1, 10, 100, SECOND, 5 * SECOND, 15 * SECOND, MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY,
  2 * DAY, 7 * DAY, 14 * DAY, 30 * DAY, 90 * DAY, 365 * DAY, 1825 * DAY, 3650 * DAY, 36500 * DAY,
];
const WINDOWS = [HOUR / 4, HOUR / 2, HOUR, 2 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 28 * DAY];
const TYPES = { Float64Array, Float32Array, Int32Array, Uint8Array, Int8Array };

// --- columns ---------------------------------------------------------------------------------------------

/** Return the columns of a buffer, as the header says where they lie. */
export function unpack(header, view) {
  const bytes = view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
  const found = {};
  for (const [name, [type, offset, count]] of Object.entries(header)) found[name] = new TYPES[type](bytes, offset, count);
  return found;
}

/** Return which files are there after a step, by number. */
export function there(columns, step) {
  const found = [];
  for (let i = 0; i < columns.born.length; i++) if (columns.born[i] <= step && columns.died[i] > step) found.push(i);
  return found;
}

/** Return with how many others each chosen file has a time in common. */
export function overlaps(columns, chosen) {
  const starts = Float64Array.from(chosen, (i) => columns.start[i]).sort();
  const ends = Float64Array.from(chosen, (i) => columns.end[i]).sort();
  return chosen.map((i) => below(starts, columns.end[i], true) - below(ends, columns.start[i], false) - 1);
}

/** Return how many sorted values are below another, or not above it. */
function below(sorted, value, inclusive) {
  let low = 0, high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value || (inclusive && sorted[middle] === value)) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Return the shade of each chosen file. */
export function shades(columns, chosen, by) {
  if (by === "overlap") return overlaps(columns, chosen).map((n) => OVERLAP_SHADES.filter((least) => n >= least).length);
  const known = by === "age" ? columns.age_shade : columns.size_shade;
  return chosen.map((i) => known[i]);
}

// --- places ----------------------------------------------------------------------------------------------

/** Return where each level lies, and how high a lane is. It is the same at every step where lanes are not too many. */
export function levelsOf(columns, chosen) {
  const all = laneCounts(columns, columns.lane.keys());
  const here = laneCounts(columns, chosen);
  const total = (counts) => [...counts.values()].reduce((sum, count) => sum + count, 0) || 1;
  const isStable = LANES_HEIGHT / total(all) >= LANE_STABLE_MIN;
  const counts = isStable ? all : here;
  const laneHeight = Math.min(LANE_MAX, LANES_HEIGHT / total(counts));
  let top = TOP;
  const levels = [...all.keys()].sort((a, b) => a - b).map((level) => {
    const height = Math.max((counts.get(level) || 0) * laneHeight, LEVEL_MIN);
    const placed = { level, top, height };
    top += height + GAP;
    return placed;
  });
  return { levels, laneHeight, bottom: top };
}

function laneCounts(columns, numbers) {
  const counts = new Map();
  for (const i of numbers) counts.set(columns.level[i], Math.max(counts.get(columns.level[i]) || 0, columns.lane[i] + 1));
  return counts;
}

/** Return the rectangle of each chosen file that can be seen between two times. */
export function rectangles(columns, chosen, placed, view) {
  const scale = (view.width - LEFT - RIGHT) / (view.last - view.first);
  const tops = new Map(placed.levels.map((each) => [each.level, each.top]));
  const height = placed.laneHeight * (placed.laneHeight > 3 ? 0.84 : 1);
  const found = [];
  chosen.forEach((number, place) => {
    if (columns.end[number] < view.first || columns.start[number] > view.last) return;
    const left = Math.max(LEFT + (columns.start[number] - view.first) * scale, LEFT);
    const right = Math.min(LEFT + (columns.end[number] - view.first) * scale, view.width - RIGHT);
    const y = tops.get(columns.level[number]) + columns.lane[number] * placed.laneHeight;
    found.push({ number, place, x: left, y, width: Math.max(right - left, BAR_MIN), height });
  });
  return found;
}

/** Return the file at a place, the one drawn last where several are; null if there is none within some pixels. */
export function hit(bars, x, y, reach = 2) {
  for (let i = bars.length - 1; i >= 0; i--) {
    const bar = bars[i];
    if (x >= bar.x - reach && x <= bar.x + bar.width + reach && y >= bar.y - reach && y <= bar.y + bar.height + reach)
      return bar.number;
  }
  return null;
}

/** Return the file that an arrow key moves to: beside it in its level, or the nearest in the next lane or level. */
export function neighbour(columns, chosen, current, key) {
  if (!chosen.length) return null;
  if (current === null || !chosen.includes(current)) return key === "ArrowLeft" ? chosen.at(-1) : chosen[0];
  if (key === "ArrowLeft" || key === "ArrowRight") {
    const same = chosen.filter((i) => columns.level[i] === columns.level[current]);
    const at = same.indexOf(current) + (key === "ArrowRight" ? 1 : -1);
    return same[at] ?? current;
  }
  const sign = key === "ArrowDown" ? 1 : -1;
  const rank = (i) => columns.level[i] * 256 + columns.lane[i];
  const beyond = chosen.filter((i) => sign * (rank(i) - rank(current)) > 0);
  if (!beyond.length) return current;
  const nearest = Math.min(...new Set(beyond.map((i) => sign * rank(i))));
  const middle = (i) => (columns.start[i] + columns.end[i]) / 2;
  const row = beyond.filter((i) => sign * rank(i) === nearest);
  const away = (i) => Math.abs(middle(i) - middle(current));
  return row.reduce((best, i) => (away(i) < away(best) ? i : best));
}

// --- words -----------------------------------------------------------------------------------------------

export function bytes(count) {
  return scaled(count, [" B", " kB", " MB", " GB", " TB", " PB"]);
}

export function amount(count) {
  return scaled(count, ["", "k", "M", "bn", "tn"]);
}

function scaled(number, units) {
  let unit = 0;
  while (number >= 999.5 && unit < units.length - 1) { number /= 1000; unit++; }
  return `${Number(number.toPrecision(3))}${units[unit]}`;
}

/** Write a number of things. */
export function counted(count, what) {
  return `${count.toLocaleString("en")} ${what}${count === 1 ? "" : "s"}`;
}

/** Write a length of time. */
export function duration(ms) {
  for (const [length, unit] of [[7 * DAY, "w"], [DAY, "d"], [HOUR, "h"], [MINUTE, "min"], [SECOND, "s"]])
    if (ms >= length && ms % length === 0) return `${ms / length} ${unit}`;
  return ms < SECOND ? `${Math.round(ms)} ms` : `${(ms / SECOND).toFixed(1)} s`;
}

const formats = new Map();

function formatOf(zone) {
  if (!formats.has(zone)) {
    const options = { hourCycle: "h23", year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit",
      minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 };
    try { formats.set(zone, new Intl.DateTimeFormat("en-GB", { ...options, timeZone: zone || "UTC" })); }
    catch { formats.set(zone, new Intl.DateTimeFormat("en-GB", { ...options, timeZone: "UTC" })); }
  }
  return formats.get(zone);
}

/** Return day and clock of a time in a zone; of a time that no calendar has, its number. */
export function calendar(at, zone) {
  if (!(Math.abs(at) <= 8.64e15)) return { day: at.toExponential(3), clock: "", offset: 0 };
  const part = Object.fromEntries(formatOf(zone).formatToParts(at).map(({ type, value }) => [type, value]));
  const clock = `${part.hour}:${part.minute}:${part.second}`;
  const shown = Date.UTC(part.year, part.month - 1, part.day, part.hour, part.minute, part.second);
  const milliseconds = part.fractionalSecond === "000" ? "" : `.${part.fractionalSecond}`;
  return { day: `${part.year}-${part.month}-${part.day}`, clock: clock + milliseconds,
    offset: shown - Math.floor(at / SECOND) * SECOND };
}

export function moment(at, zone) {
  const { day, clock } = calendar(at, zone);
  return clock ? `${day} ${clock}` : day;
}

/** Return round times between two, and what to write there. */
export function ticks(first, last, zone, count = 8) {
  const wanted = (last - first) / count, magnitude = 10 ** Math.floor(Math.log10(wanted));
  const step = [...TICK_STEPS, ...[1, 2, 5, 10].map((n) => n * magnitude)].find((length) => length >= wanted);
  const offset = calendar(first, zone).offset;
  const found = [];
  let before = "";
  for (let at = Math.ceil((first + offset) / step) * step - offset; at <= last; at += step) {
    const { day, clock } = calendar(at, zone);
    const shown = day.slice(0, 4) === before.slice(0, 4) ? day.slice(5) : day;
    const time = step >= MINUTE ? clock.slice(0, 5) : clock;
    found.push({ at, label: day === before ? time : step >= DAY || !clock || clock === "00:00:00" ? shown : `${shown} ${time}` });
    before = day;
  }
  return found;
}

/** Say what happened with a step. */
export function sentence(facts, columns, step) {
  const what = facts.whats[columns.step_what[step]], reason = facts.reasons[columns.step_reason[step]];
  const came = columns.step_outputs[step], went = columns.step_inputs[step];
  const said = [`version ${columns.step_version[step]}`, reason ? `${what} (${reason})` : what];
  if (columns.step_at[step]) said.push(moment(columns.step_at[step], "UTC").slice(0, 19) + " UTC");
  if (came || went) said.push(`${went ? `${went} files → ` : "+"}${came} ${came === 1 ? "file" : "files"}, ${bytes(columns.step_bytes_out[step])}`);
  if (columns.step_took[step]) said.push(`took ${duration(columns.step_took[step])}`);
  said.push(`${columns.step_files[step].toLocaleString("en")} files, ${bytes(columns.step_size[step])} then`);
  return said.join(" · ");
}

/** Return a path of what each step wrote, one column for each pixel, of steps of one kind. */
export function stripPath(columns, kinds, kind, width, height) {
  const count = columns.step_version.length, tallest = new Float64Array(Math.ceil(width));
  let most = 1;
  for (let i = 0; i < count; i++) most = Math.max(most, columns.step_bytes_out[i]);
  for (let i = 0; i < count; i++) {
    if (kinds(columns.step_what[i]) !== kind) continue;
    const x = Math.min(Math.floor((i * width) / count), tallest.length - 1);
    tallest[x] = Math.max(tallest[x], 3 + (height - 4) * Math.sqrt(columns.step_bytes_out[i] / most));
  }
  const wide = Math.max(width / count - 1, 1).toFixed(2);
  return Array.from(tallest, (tall, x) => (tall ? `M${x} ${height}v${-tall.toFixed(1)}h${wide}v${tall.toFixed(1)}z` : "")).join("");
}

/** Say how values are encoded: not that levels are run lengths, which they always are, nor that a dictionary is plain. */
export function encodingWords(encodings) {
  const words = { RLE_DICTIONARY: "dictionary", PLAIN_DICTIONARY: "dictionary", DELTA_BINARY_PACKED: "delta", BYTE_STREAM_SPLIT: "split" };
  const known = encodings.split(", ").filter((name) => name !== "RLE" && name !== "BIT_PACKED");
  const found = [...new Set(known.map((name) => words[name] ?? name.toLowerCase()))];
  return (found.includes("dictionary") ? found.filter((name) => name !== "plain") : found).join(", ");
}

/** Return the points of a curve of values that hold until the next, 0 at the bottom; moments are evenly apart. */
export function curve(moments, xs, ys, most, width, height) {
  const rank = new Map(moments.map((at, i) => [at, i]));
  const step = width / Math.max(moments.length - 1, 1);
  const up = ys.map((y) => (height - (y / (most || 1)) * (height - 2)).toFixed(1));
  return xs.map((x, i) => {
    const at = (rank.get(x) * step).toFixed(1);
    return i ? `${at},${up[i - 1]} ${at},${up[i]}` : `${at},${up[i]}`;
  }).join(" ");
}

/** Return hexadecimal digits of a file's identifier. */
export function fileId(columns, number) {
  return Array.from(columns.file_id.subarray(number * 16, number * 16 + 16), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Return the file of an identifier, null if there is none. */
export function numberOf(columns, id) {
  for (let i = 0; i < columns.born.length; i++) if (fileId(columns, i) === id) return i;
  return null;
}

// --- elements --------------------------------------------------------------------------------------------

function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

function draw(tag, attributes = {}, text = null) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== null) made.textContent = text;
  return made;
}

function tableOf(columns, rows) {
  const isNumber = columns.map((name, i) => rows.length > 0 && rows.every((row) => typeof row[i] === "number"));
  const cell = (tag, text, i) => make(tag, isNumber[i] ? { class: "mito-number" } : {}, text);
  const shown = (value) => (value === null ? "" : typeof value === "number" ? value.toLocaleString("en") : String(value));
  return make("table", {},
    make("thead", {}, make("tr", {}, ...columns.map((name, i) => cell("th", name, i)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((value, i) => cell("td", shown(value), i))))));
}

function listOf(pairs) {
  return make("dl", {}, ...pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

// --- the widget ------------------------------------------------------------------------------------------

function render({ model, el }) {
  let facts, columns;
  const state = { step: 0, by: "size", first: 0, last: 1, picked: null, marked: new Set(), isNewest: true, windowMs: null };
  const self = Math.random().toString(36).slice(2);
  const waiting = new Map();
  let asked = 0, shownWidth = 0, bars = [], chosen = [], isGone = false;

  function ask(message) {
    return new Promise((resolve) => {
      const id = `${self}-${++asked}`;
      waiting.set(id, resolve);
      model.send({ ...message, id });
    });
  }

  // -- what there is --

  const head = make("div", { class: "mito-head", "data-testid": "mito-head" });
  const legend = make("span", { class: "mito-legend" });
  const spoken = make("div", { class: "mito-spoken", role: "status", "aria-live": "polite" });
  const back = draw("svg", { "aria-hidden": "true" });
  const canvas = make("canvas", { "aria-hidden": "true" });
  const front = draw("svg", { "aria-hidden": "true" });
  const chart = make("div", {
    class: "mito-chart", tabindex: "0", role: "application", "data-testid": "mito-chart",
    "aria-label": "SSTs over time, by level. Arrow keys move from file to file, Enter shows the footer, space plays, plus and minus zoom, 0 shows all, brackets go from version to version.",
  }, back, canvas, front);
  const strip = draw("svg", { class: "mito-strip", "data-testid": "mito-strip", "aria-hidden": "true" });
  const play = make("button", { "aria-label": "play", "data-testid": "mito-play", onclick: () => toggle() }, "▶");
  const scrub = make("input", { type: "range", class: "mito-scrub", min: 0, "aria-label": "version of the manifest", "data-testid": "mito-scrub", oninput: () => goTo(Number(scrub.value)) });
  const told = make("div", { class: "mito-quiet", "data-testid": "mito-told" });
  const footer = make("section", { "aria-label": "file", "data-testid": "mito-footer" });
  const whatIf = make("section", { "aria-label": "what if", "data-testid": "mito-what-if" });
  const live = make("section", { "aria-label": "now", "data-testid": "mito-live" });
  const choices = make("fieldset", { "aria-label": "colour by" }, make("span", { class: "mito-quiet" }, "colour by"),
    ...["size", "age", "overlap"].map((by) => make("label", {},
      make("input", { type: "radio", name: `by-${self}`, value: by, ...(by === state.by ? { checked: "" } : {}), onchange: () => { state.by = by; paint(); } }), by)));
  const zoom = make("span", { class: "mito-bar" },
    make("button", { "aria-label": "zoom in", onclick: () => zoomBy(0.5) }, "+"),
    make("button", { "aria-label": "zoom out", onclick: () => zoomBy(2) }, "−"),
    make("button", { "aria-label": "show all", onclick: () => fit() }, "all"));
  const root = make("div", { class: "mito-panel", "data-testid": "mito-panel", "data-lm-suppress-shortcuts": "true", onkeydown: (event) => event.stopPropagation() },
    head, make("div", { class: "mito-bar" }, choices, legend, zoom), chart, strip,
    make("div", { class: "mito-bar" }, play, scrub), told, make("div", { class: "mito-grid" }, footer, whatIf, live), spoken);
  el.replaceChildren(root);

  function load() {
    const picked = state.picked === null ? null : fileId(columns, state.picked);
    const isAllShown = columns === undefined || isFitted();
    facts = JSON.parse(model.get("header"));
    columns = unpack(facts.columns, model.get("columns"));
    const newest = columns.step_version.length - 1;
    scrub.max = newest;
    if (state.isNewest) state.step = newest;
    state.step = Math.min(state.step, newest);
    state.picked = picked === null ? null : numberOf(columns, picked);
    state.marked.clear();
    if (isAllShown) [state.first, state.last] = limits();
  }

  // -- the chart --

  function limits() {
    let first = Infinity, last = -Infinity;
    for (let i = 0; i < columns.start.length; i++) { first = Math.min(first, columns.start[i]); last = Math.max(last, columns.end[i]); }
    if (first > last) return [0, DAY];
    const margin = 0.015 * (last - first) || Math.max(SECOND, 1e-9 * Math.abs(first));
    return [first - margin, last + margin];
  }

  function isFitted() {
    const [first, last] = limits();
    return state.first <= first && state.last >= last;
  }

  function fit() {
    [state.first, state.last] = limits();
    paint();
  }

  function zoomBy(factor, centre = null) {
    const picked = state.picked !== null ? (columns.start[state.picked] + columns.end[state.picked]) / 2 : null;
    const middle = centre ?? picked ?? (state.first + state.last) / 2;
    const [first, last] = limits();
    const span = Math.min((state.last - state.first) * factor, last - first);
    if (span < 0.01) return;
    const share = centre === null ? 0.5 : (centre - state.first) / (state.last - state.first);
    state.first = Math.min(Math.max(middle - span * share, first), last - span);
    state.last = state.first + span;
    paint();
  }

  function colours(names) {
    const found = names.map((name) => { spoken.style.color = `var(--mito-${name})`; return getComputedStyle(spoken).color; });
    spoken.style.color = "";
    return found;
  }

  function paint() {
    shownWidth = chart.clientWidth;
    if (!shownWidth) return; // It is hidden at this moment, and is observed.
    const width = Math.max(shownWidth, 320);
    chosen = there(columns, state.step);
    const placed = levelsOf(columns, chosen);
    const height = placed.bottom + AXIS;
    chart.style.height = `${height}px`;
    for (const layer of [back, front]) { layer.setAttribute("width", width); layer.setAttribute("height", height); }
    const view = { first: state.first, last: state.last, width };
    bars = rectangles(columns, chosen, placed, view);
    const shade = shades(columns, chosen, state.by);
    paintBack(placed, view, height);
    front.replaceChildren();
    paintBars(shade, width, height);
    paintMarks();
    paintLegend(shade);
    paintStrip(width);
    const isNewest = state.step === columns.step_version.length - 1;
    head.replaceChildren(make("b", {}, facts.table), ` ${chosen.filter((i) => columns.level[i] !== MEMORY).length.toLocaleString("en")} files, ${amount(sum(columns.rows))} rows, ${bytes(sum(columns.size))} at version ${isNewest ? facts.version : columns.step_version[state.step]}`,
      make("span", { class: "mito-quiet" }, facts.left_out ? ` · ${facts.left_out.toLocaleString("en")} older files are not drawn` : ""));
    chart.setAttribute("data-files", String(chosen.length));
    chart.setAttribute("data-mode", bars.length > BARS_MAX ? "canvas" : "svg");
    told.textContent = sentence(facts, columns, state.step);
    scrub.value = state.step;
    scrub.setAttribute("aria-valuetext", told.textContent);
  }

  function sum(column) {
    return chosen.reduce((total, i) => total + (columns.level[i] === MEMORY ? 0 : column[i]), 0);
  }

  function paintBack(placed, view, height) {
    const x = (at) => LEFT + ((at - view.first) * (view.width - LEFT - RIGHT)) / (view.last - view.first);
    const items = [...windowBands(placed, view, x)];
    for (const { level, top } of placed.levels) {
      const files = chosen.filter((i) => columns.level[i] === level);
      const label = draw("text", { x: 2, y: top + 11 });
      label.append(draw("tspan", { "font-weight": "600" }, level === MEMORY ? "memory" : `L${level}`),
        draw("tspan", { dx: 5 }, level === MEMORY ? `${amount(files.reduce((n, i) => n + columns.rows[i], 0))} rows` : `${files.length.toLocaleString("en")} · ${bytes(files.reduce((n, i) => n + columns.size[i], 0))}`));
      items.push(label);
    }
    items.push(draw("line", { x1: LEFT, x2: view.width - RIGHT, y1: placed.bottom, y2: placed.bottom, stroke: "var(--mito-line)" }));
    for (const { at, label } of ticks(view.first, view.last, facts.zone, Math.max((view.width - LEFT) / 105, 2)))
      items.push(draw("line", { x1: x(at), x2: x(at), y1: placed.bottom, y2: placed.bottom + 4, stroke: "var(--mito-line)" }),
        draw("text", { x: Math.min(Math.max(x(at), LEFT + 14), view.width - 30), y: placed.bottom + 17, "text-anchor": "middle" }, label));
    back.replaceChildren(...items);
  }

  /** Windows that hold files, those that are due in another colour; or those there would be. */
  function windowBands(placed, view, x) {
    const found = [];
    const band = (start, end, name) => {
      const left = Math.max(x(start), LEFT), right = Math.min(x(end), view.width - RIGHT);
      if (right > left) found.push(draw("rect", { class: `mito-${name}`, x: left, y: 0, width: Math.max(right - left - 1, 0.5), height: placed.bottom }));
    };
    if (state.windowMs !== null && state.windowMs !== facts.window_ms) {
      if ((view.last - view.first) / state.windowMs <= WINDOWS_MAX)
        for (let start = Math.floor(view.first / state.windowMs) * state.windowMs; start < view.last; start += state.windowMs) band(start, start + state.windowMs, "window");
      return found;
    }
    for (let i = 0; i < columns.window_start.length; i++) {
      if (columns.window_end[i] < view.first || columns.window_start[i] > view.last) continue;
      band(columns.window_start[i], columns.window_end[i], columns.window_merges[i] ? "due" : "window");
      if (found.length > WINDOWS_MAX) return [];
    }
    return found;
  }

  function paintBars(shade, width, height) {
    const isCanvas = bars.length > BARS_MAX;
    canvas.style.display = isCanvas ? "block" : "none";
    if (!isCanvas) {
      front.append(...bars.map((bar) => draw("rect", {
        class: columns.level[bar.number] === MEMORY ? "mito-memory" : `mito-s${shade[bar.place]}`, "data-testid": "mito-sst",
        x: bar.x, y: bar.y, width: bar.width, height: bar.height, rx: bar.height > 4 ? 1.5 : 0,
      })));
      return;
    }
    const ratio = window.devicePixelRatio || 1;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const palette = colours([...Array(SHADES).keys()].map((n) => `s${n}`).concat("memory"));
    for (let n = 0; n <= SHADES; n++) {
      context.fillStyle = palette[n];
      for (const bar of bars)
        if ((columns.level[bar.number] === MEMORY ? SHADES : shade[bar.place]) === n) context.fillRect(bar.x, bar.y, bar.width, bar.height);
    }
  }

  function paintMarks() {
    front.querySelectorAll(".mito-mark").forEach((each) => each.remove());
    const outline = (bar, colour, name) => front.append(draw("rect", {
      class: "mito-mark", "data-testid": name, x: bar.x - 1.5, y: bar.y - 1.5, width: bar.width + 3, height: bar.height + 3,
      rx: 2, fill: "none", stroke: `var(--mito-${colour})`, "stroke-width": 2,
    }));
    for (const bar of bars) {
      if (state.marked.has(bar.number)) outline(bar, "pick", "mito-marked");
      if (bar.number === state.picked) outline(bar, "focus", "mito-picked");
    }
  }

  function paintLegend(shade) {
    const labels = facts.shades[state.by];
    const used = new Set(shade);
    legend.replaceChildren(...labels.flatMap((label, n) => (state.by !== "age" && !used.has(n) ? [] : [make("span", {}, swatch(`s${n}`), label)])),
      ...(chosen.some((i) => columns.level[i] === MEMORY) ? [make("span", {}, swatch("memory"), "not flushed")] : []),
      ...(columns.window_merges.some((n) => n > 0) ? [make("span", {}, swatch("due"), "window to be merged")] : []));
  }

  function swatch(name) {
    return make("i", { style: `background: var(--mito-${name})` });
  }

  function describe(number) {
    const zone = facts.zone;
    return `${columns.level[number] === MEMORY ? "memory" : `L${columns.level[number]} ${fileId(columns, number).slice(0, 8)}`}, ${moment(columns.start[number], zone)} to ${moment(columns.end[number], zone)}, ${amount(columns.rows[number])} rows, ${bytes(columns.size[number])}`;
  }

  function pick(number) {
    if (number === null) return;
    state.picked = number;
    const span = state.last - state.first;
    if (columns.end[number] < state.first || columns.start[number] > state.last) {
      const middle = (columns.start[number] + columns.end[number]) / 2;
      state.first = middle - span / 2;
      state.last = middle + span / 2;
      paint();
    }
    paintMarks();
    spoken.textContent = describe(number);
    paintStrip(Math.max(chart.clientWidth, 320));
  }

  // -- a file --

  function hint() {
    footer.replaceChildren(make("h4", {}, "File"), make("p", { class: "mito-none" }, "Click a file, or move to one with the arrow keys and press Enter, to see what is in it."));
  }

  async function open(number) {
    if (number === null || number === undefined) return;
    pick(number);
    const zone = facts.zone, id = fileId(columns, number), isMemory = columns.level[number] === MEMORY;
    const title = make("h4", {}, isMemory ? "Rows in memory" : `File ${id}`);
    const pairs = [
      ["times", `${moment(columns.start[number], zone)} to ${moment(columns.end[number], zone)}`],
      ["rows, size", `${columns.rows[number].toLocaleString("en")} rows, ${bytes(columns.size[number])}`],
      ["sequences", `${columns.min_sequence[number].toLocaleString("en")} to ${columns.max_sequence[number].toLocaleString("en")}`],
      ["lane", isMemory ? "memory" : `level ${columns.level[number]}, run ${columns.lane[number] + 1}`],
    ];
    if (columns.born[number] >= 0 && !isMemory) pairs.push(["came with", sentence(facts, columns, columns.born[number]).split(" · ").slice(0, 3).join(" · ")]);
    if (columns.died[number] < columns.step_version.length) pairs.push(["went with", sentence(facts, columns, columns.died[number]).split(" · ").slice(0, 3).join(" · ")]);
    footer.replaceChildren(title, listOf(pairs));
    if (isMemory) return;
    const answer = await ask({ ask: "footer", file: id });
    if (isGone || state.picked === null || fileId(columns, state.picked) !== id) return;
    if (answer.error) { footer.append(make("p", { class: "mito-problem" }, answer.error)); return; }
    showFooter(pairs, title, answer);
  }

  function showFooter(pairs, title, answer) {
    const [file] = answer.file, keys = answer.keys, [around] = answer.window;
    const key = (row) => Object.entries(row).map(([name, value]) => `${name}=${value}`).join(", ") || "no tags";
    pairs.push(["series", `${file.series.toLocaleString("en")}, ${file.deletes.toLocaleString("en")} delete markers`],
      ["keys", keys.length ? `${key(keys[0])} … ${key(keys.at(-1))}` : ""],
      ["window", around ? `${around.window_start.slice(0, 16)} to ${around.window_end.slice(0, 16)}: ${around.reason}` : "none"],
      ["indexes", file.indexes.length ? `${file.indexes.join(", ")} (${bytes(file.index_bytes)})` : "none"]);
    footer.replaceChildren(title, listOf(pairs),
      make("h4", { style: "margin-top: 8px" }, "Columns"),
      tableOf(["column", "type", "size", "of", "nulls", "encodings"], answer.columns.map((each) => [
        each.column, each.type, bytes(each.size_bytes),
        bytes(each.unpacked_bytes), each.nulls, `${encodingWords(each.encodings)}, ${each.compression}`])),
      make("details", {}, make("summary", {}, `Row groups (${answer.row_group_count})`),
        tableOf(["row group", "rows", "size", "first row"], answer.row_groups.map((each) => [each.row_group, each.rows, bytes(each.size_bytes), each.first_row]))),
      make("details", {}, make("summary", {}, "Statistics"),
        tableOf(["row group", "column", "least", "greatest", "nulls"], answer.chunks.map((each) => [each.row_group, each.column, each.min, each.max, each.nulls]))));
    footer.setAttribute("data-file", file.file_id);
  }

  // -- versions --

  function paintStrip(width) {
    const height = 34, inner = width - LEFT - RIGHT, count = columns.step_version.length;
    strip.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const kind = (what) => (facts.whats[what] === "flush" ? "flush" : facts.whats[what] === "compact" ? "compact" : "other");
    const group = draw("g", { transform: `translate(${LEFT} 0)` });
    for (const name of ["flush", "compact", "other"]) group.append(draw("path", { d: stripPath(columns, kind, name, inner, height), fill: `var(--mito-${name})` }));
    const at = (step) => ((step + 0.5) * inner) / count;
    group.append(draw("line", { x1: at(state.step), x2: at(state.step), y1: 0, y2: height, stroke: "var(--mito-focus)", "stroke-width": 1.5 }));
    const label = draw("text", { x: 2, y: 14 });
    label.append(draw("tspan", { style: "fill: var(--mito-flush)" }, "flush"), draw("tspan", { dx: 5, style: "fill: var(--mito-compact)" }, "compact"));
    const second = draw("text", { x: 2, y: 28 }, `${count.toLocaleString("en")} versions`);
    strip.replaceChildren(group, label, second);
    if (state.picked !== null)
      for (const step of [columns.born[state.picked], columns.died[state.picked]])
        if (step >= 0 && step < count) group.append(draw("circle", { cx: at(step), cy: 4, r: 3, fill: "var(--mito-focus)" }));
  }

  function goTo(step) {
    state.step = Math.min(Math.max(step, 0), columns.step_version.length - 1);
    state.isNewest = state.step === columns.step_version.length - 1;
    paint();
  }

  let playing = null;

  function toggle() {
    if (playing !== null) { stop(); return; }
    const count = columns.step_version.length;
    if (state.isNewest) goTo(0);
    const pace = Math.max(12_000 / count, 50), stride = Math.max(Math.round((count * 50) / 12_000), 1);
    play.textContent = "❚❚";
    play.setAttribute("aria-label", "pause");
    playing = setInterval(() => {
      goTo(state.step + stride);
      if (state.isNewest) stop();
    }, Math.min(pace, 600));
  }

  function stop() {
    clearInterval(playing);
    playing = null;
    play.textContent = "▶";
    play.setAttribute("aria-label", "play");
  }

  strip.addEventListener("click", (event) => {
    const box = strip.getBoundingClientRect();
    goTo(Math.floor(((event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT)) * columns.step_version.length));
  });

  // -- what if --

  const sizes = Array.from({ length: 11 }, (_, n) => MIB * 2 ** n);
  const sliders = [];
  const controls = make("div");
  const outcome = make("div", { "data-testid": "mito-plan" });
  const curves = make("div");
  whatIf.append(make("h4", {}, "What if"), controls, make("button", { "data-testid": "mito-reset", onclick: reset }, "as it is"), outcome);

  /** What was moved away from what the table has stays where it is; the rest follows the table. */
  function slider(name, label, values, show, moved) {
    const usual = facts.options[name], chosen = moved ?? usual;
    const known = [...new Set([...values, usual, chosen])].sort((a, b) => a - b);
    const shown = make("span", {});
    const input = make("input", { type: "range", min: 0, max: known.length - 1, "aria-label": label, "data-testid": `mito-${name}`, oninput: () => {
      tell();
      if (name === "compaction_window_ms") { state.windowMs = value(); paint(); }
      askWhatIf();
    } });
    const value = () => known[Number(input.value)];
    const tell = () => { shown.textContent = show(value()); input.setAttribute("aria-valuetext", shown.textContent); };
    const set = (wanted) => { input.value = known.indexOf(wanted); tell(); };
    set(chosen);
    sliders.push({ name, usual, value, input, reset: () => set(usual) });
    return make("div", { class: "mito-slider" }, make("span", {}, label), input, shown);
  }

  function buildWhatIf() {
    const moved = Object.fromEntries(changedSliders().map((each) => [each.name, each.value()]));
    const focused = sliders.findIndex((each) => each.input.matches(":focus"));
    sliders.length = 0;
    state.windowMs = moved.compaction_window_ms ?? null;
    controls.replaceChildren(...[
      ["compaction_window_ms", "window", WINDOWS, duration],
      ["compaction_trigger_files", "trigger", Array.from({ length: 15 }, (_, n) => n + 2).concat([20, 24, 28, 32]), (n) => `${n} files`],
      ["sst_size_bytes", "file size", sizes, (n) => (n % MIB ? bytes(n) : `${n / MIB} MiB`)],
    ].map((each) => slider(...each, moved[each[0]])));
    sliders[focused]?.input.focus();
  }

  function changedSliders() {
    return sliders.filter((each) => each.value() !== each.usual);
  }

  function reset() {
    for (const each of sliders) each.reset();
    state.windowMs = null;
    paint();
    askWhatIf();
  }

  let isAsking = false, isStale = false;

  /** Ask for the next merges, then for the curves, part by part; of sliders that move meanwhile only where they stand. */
  async function askWhatIf(how = {}) {
    if (isAsking) { isStale = true; return; }
    isAsking = true;
    try {
      do {
        isStale = false;
        await askOnce(how);
        how = {};
      } while (isStale && !isGone);
    } finally { isAsking = false; }
  }

  async function askOnce(how) {
    const changed = changedSliders();
    const options = Object.fromEntries(changed.map((each) => [each.name, each.value()]));
    const began = performance.now();
    const plan = await ask({ ask: "plan", options, ...how });
    if (isGone) return;
    showPlan(plan, changed.length > 0);
    outcome.setAttribute("data-answered-ms", (performance.now() - began).toFixed(0));
    for (let share = 0; share < 1 && !isStale; ) {
      const replay = await ask({ ask: "replay", options, ...how });
      if (isGone || replay.error) return;
      share = replay.share;
      curves.replaceChildren(curvesOf(replay, changed.length > 0));
    }
  }

  function showPlan(answer, isChanged) {
    state.marked = new Set(isChanged && !answer.error ? answer.tasks.flatMap((task) => task.inputs) : []);
    paintMarks();
    if (answer.error) { outcome.replaceChildren(make("p", { class: "mito-problem", role: "status" }, answer.error)); return; }
    const focused = [...outcome.querySelectorAll("button")].findIndex((each) => each.matches(":focus"));
    const least = answer.has_more ? "at least " : "";
    const next = answer.task_count
      ? `next: ${least}${counted(answer.task_count, "merge")} of ${counted(answer.file_count, "file")}, ${bytes(answer.size_bytes)}`
      : "next: nothing to merge";
    const tasks = answer.tasks.slice(0, 8).map((task) => make("button", {
      class: "mito-task", "data-testid": "mito-task", onclick: () => { state.marked = new Set(task.inputs); paintMarks(); },
    }, `${counted(task.file_count, "file")} of ${task.window_start.slice(0, 16)}, ${bytes(task.size_bytes)}: ${task.reason}`));
    outcome.replaceChildren(make("p", { "data-testid": "mito-next", style: "margin: 4px 0" }, next), curves, ...tasks);
    tasks[Math.min(focused, tasks.length - 1)]?.focus();
  }

  function curvesOf({ steps, usual, share, most: peaks }, isChanged) {
    if (!steps.at.length && share === 1) return make("p", { class: "mito-none" }, "No flush is remembered, so there is nothing to replay.");
    const moments = [...new Set([...steps.at, ...usual.at])].sort((a, b) => a - b);
    const shown = [["files", "files", 0], ["write_amplification", "bytes written per byte", 2], ["runs_max", "runs a read merges", 0]];
    return make("div", { class: "mito-curves" }, ...shown.map(([name, label, digits]) => {
      const most = Math.max(peaks.steps[name], peaks.usual[name]);
      const picture = draw("svg", { viewBox: "0 0 150 48", preserveAspectRatio: "none", role: "img", "aria-label": label });
      const line = (of, colour, width) => draw("polyline", { points: curve(moments, of.at, of[name], most, 150, 46), fill: "none", stroke: `var(--mito-${colour})`, "stroke-width": width, "vector-effect": "non-scaling-stroke" });
      picture.append(draw("line", { x1: 0, x2: 150, y1: 47, y2: 47, stroke: "var(--mito-line)", "vector-effect": "non-scaling-stroke" }), line(usual, "other", 1.5));
      if (isChanged) picture.append(line(steps, "pick", 1.8));
      const peak = (of, peaked) => (name === "write_amplification" ? of[name].at(-1) ?? 1 : peaked[name]).toFixed(digits);
      const words = name === "write_amplification" ? "" : "at most ";
      return make("div", { "data-testid": `mito-curve-${name}` }, make("div", { class: "mito-quiet" }, label), picture,
        make("div", {}, `${words}${peak(steps, peaks.steps)}${isChanged ? `, as it is ${peak(usual, peaks.usual)}` : ""}${share < 1 ? `, after ${Math.floor(100 * share)} % of its history` : ""}`));
    }));
  }

  // -- now --

  async function look() {
    if (isGone) return;
    let pause = facts.live_ms;
    if (document.visibilityState === "visible" && isSeen) {
      const answer = await ask({ ask: "live" });
      if (isGone) return;
      if (answer.error) live.replaceChildren(make("h4", {}, "Now"), make("p", { class: "mito-problem" }, answer.error));
      else showLive(answer);
      pause = answer.error ? REFUSED_PAUSE : answer.next_ms;
    }
    looking = setTimeout(look, pause);
  }

  function showLive({ memtables, log, caches, jobs, version }) {
    const rows = memtables.reduce((n, each) => n + each.rows, 0), size = memtables.reduce((n, each) => n + each.size_bytes, 0);
    const [{ last_entry, flushed_entry, behind }] = log;
    const limit = facts.write_buffer_bytes;
    const lanes = jobs.filter((each) => each.kind === "lane" && (each.running || each.waiting || each.finished));
    const problems = jobs.filter((each) => each.error);
    live.replaceChildren(make("h4", {}, "Now"),
      listOf([["memory", `${rows.toLocaleString("en")} rows, ${bytes(size)} of ${bytes(limit)} before a flush${memtables.length > 1 ? `, ${memtables.length - 1} being flushed` : ""}`]]),
      make("div", { class: "mito-full" }, make("i", { style: `width: ${Math.min((100 * size) / limit, 100)}%` })),
      listOf([["log", `entry ${last_entry.toLocaleString("en")}; this table needs those after ${flushed_entry.toLocaleString("en")} (${behind.toLocaleString("en")})`], ["version", String(version)]]),
      tableOf(["cache", "entries", "size", "hits", "misses"], caches.map((each) => [each.kind, each.entries, bytes(each.size_bytes), each.hits, each.misses])),
      tableOf(["jobs", "running", "waiting", "finished", "failed"], lanes.map((each) => [each.name, each.running, each.waiting, each.finished, each.failed])),
      ...problems.map((each) => make("p", { class: "mito-problem" }, `${each.name}: ${each.error}`)));
  }

  // -- keys and pointers --

  const keys = {
    Enter: () => open(state.picked), " ": toggle, "+": () => zoomBy(0.5), "=": () => zoomBy(0.5), "-": () => zoomBy(2), 0: fit,
    "[": () => goTo(state.step - 1), "]": () => goTo(state.step + 1), Escape: () => { state.picked = null; paint(); hint(); },
    Home: () => pick(bars[0]?.number ?? null), End: () => pick(bars.at(-1)?.number ?? null),
  };
  chart.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act = event.key.startsWith("Arrow") ? () => pick(neighbour(columns, chosen, state.picked, event.key)) : keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  let drag = null, wasMoved = false;
  chart.addEventListener("pointerdown", (event) => { drag = { x: event.clientX, first: state.first, last: state.last, moved: false }; });
  chart.addEventListener("pointermove", (event) => {
    if (drag === null) { const box = chart.getBoundingClientRect(); const at = hit(bars, event.clientX - box.left, event.clientY - box.top); chart.title = at === null ? "" : describe(at); chart.style.cursor = at === null ? "" : "pointer"; return; }
    if (Math.abs(event.clientX - drag.x) < 4 && !drag.moved) return;
    drag.moved = true;
    const [first, last] = limits(), span = drag.last - drag.first;
    const moved = ((drag.x - event.clientX) / (chart.clientWidth - LEFT - RIGHT)) * span;
    state.first = Math.min(Math.max(drag.first + moved, first), last - span);
    state.last = state.first + span;
    paint();
  });
  const drop = () => { wasMoved = drag !== null && drag.moved; drag = null; };
  const ends = ["pointerup", "pointercancel"];
  for (const name of ends) window.addEventListener(name, drop);
  chart.addEventListener("click", (event) => {
    if (wasMoved) return;
    const box = chart.getBoundingClientRect();
    open(hit(bars, event.clientX - box.left, event.clientY - box.top) ?? undefined);
  });
  chart.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const box = chart.getBoundingClientRect();
    const share = (event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT);
    zoomBy(event.deltaY < 0 ? 0.8 : 1.25, state.first + share * (state.last - state.first));
  }, { passive: false });

  // -- beginning and end --

  let looking = null, isSeen = true;
  const onMessage = (message) => { waiting.get(message.id)?.(message); waiting.delete(message.id); };
  const onChange = () => {
    load();
    if (sliders.some((each) => each.usual !== facts.options[each.name])) buildWhatIf();
    paint();
    askWhatIf({ unasked: true });
  };
  const themes = new MutationObserver(() => requestAnimationFrame(() => paint()));
  const size = new ResizeObserver(() => { if (chart.clientWidth !== shownWidth) paint(); });
  const seen = new IntersectionObserver((entries) => { isSeen = entries.some((entry) => entry.isIntersecting); });
  const media = window.matchMedia("(prefers-color-scheme: dark)");
  const onMedia = () => paint();

  model.on("msg:custom", onMessage);
  model.on("change:columns", onChange);
  load();
  fit();
  hint();
  buildWhatIf();
  askWhatIf();
  themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "class", "data-theme"] });
  media.addEventListener("change", onMedia);
  size.observe(chart);
  seen.observe(root);
  look();
  root.setAttribute("data-ready", "true");

  return () => {
    isGone = true;
    stop();
    clearTimeout(looking);
    model.off("msg:custom", onMessage);
    model.off("change:columns", onChange);
    for (const name of ends) window.removeEventListener(name, drop);
    media.removeEventListener("change", onMedia);
    for (const each of [themes, size, seen]) each.disconnect();
  };
}

export default { render };
