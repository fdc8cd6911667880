// What all charts share: a host that knows its size, colours of the theme, and axes.

import { h, s } from "./dom.js";
import { HISTORY_MAX, live } from "./live.js";

/** The colours of series, as the theme has them. */
export const COLOURS = ["--c1", "--c2", "--c3", "--c4", "--c5", "--c6", "--c7"];

/** A colour of the theme as it is now. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/**
 * A chart: `draw(width, height)` gives its content and is called when the data, the size or the theme
 * changes. `label` says in words what the picture shows.
 */
export function chart({ label, height, draw, signal }) {
  const host = h("div.chart", { role: "img", "aria-label": label });
  host.style.height = `${height}px`;
  let width = 0;
  const redraw = () => { if (width > 0) host.replaceChildren(...[draw(width, height)].flat()); };
  const observer = new ResizeObserver(([entry]) => {
    const now = Math.floor(entry.contentRect.width);
    if (now !== width) { width = now; redraw(); }
  });
  observer.observe(host);
  live.addEventListener("theme", redraw, { signal });
  signal.addEventListener("abort", () => observer.disconnect());
  return { node: host, redraw, label: (text) => host.setAttribute("aria-label", text) };
}

/** A drawing of a size. */
export const drawing = (width, height, ...content) => s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" }, ...content);

/** A round number at or above a value: 1, 2, 5 times a power of ten. */
export function roundUp(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((step) => step * power >= value) * power;
}

const SPANS = [60, 120, HISTORY_MAX];

/** How many seconds a chart over time shows: as few as hold what there is. */
export const spanOf = (history) => SPANS.find((seconds) => seconds >= history.length) ?? HISTORY_MAX;

/** The times below a chart, as many as have room; `left` and `width` are those of its inside. */
export function timeTicks(span, left, width, y) {
  const steps = span / (width < 220 ? 1 : width < 420 ? 2 : 4);
  const ticks = [];
  for (let seconds = 0; seconds <= span; seconds += steps) {
    const text = !seconds ? "now" : seconds % 60 ? `−${seconds} s` : `−${seconds / 60} min`;
    const anchor = seconds === 0 ? "end" : seconds === span ? "start" : "middle";
    ticks.push(s("text", { class: "tick", x: left + width * (1 - seconds / span), y, "text-anchor": anchor }, text));
  }
  return ticks;
}

/** A line across with its value beside it. */
export function gridLine(y, left, right, text) {
  return [
    s("line", { class: "grid-line", x1: left, x2: right, y1: y, y2: y }),
    s("text", { class: "tick", x: left - 6, y: y + 3.5, "text-anchor": "end" }, text),
  ];
}

/** A legend, whose values can be set where it has any: entries are `[name, colour variable]`. */
export function legend(entries, hasValues = true) {
  const values = entries.map(() => (hasValues ? h("b", {}, "–") : ""));
  const swatch = (name) => {
    const node = h("i");
    node.style.background = `var(${name})`;
    return node;
  };
  const node = h("ul.legend", {}, entries.map(([name, of], at) => h("li", {}, swatch(of), name, " ", values[at])));
  return { node, set: (at, text) => { if (values[at].textContent !== text) values[at].textContent = text; } };
}
