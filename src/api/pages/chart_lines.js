// Lines over the last minutes, and the curve of percentiles.

import { h, s } from "./dom.js";
import { chart, drawing, gridLine, legend, roundUp, spanOf, timeTicks } from "./charts.js";
import { join, ns } from "./format.js";

const LEFT = 56, RIGHT = 8, TOP = 8, BOTTOM = 20;

/** Where a value lies between bottom and top. */
function scale(max, height, min = 0, isLog = false) {
  const of = isLog ? (value) => Math.log10(Math.max(value, min)) : (value) => value;
  const [low, high] = [of(min), of(max)];
  return (value) => TOP + (height - TOP - BOTTOM) * (1 - (of(value) - low) / (high - low || 1));
}

/** The bounds of a log axis around values: powers of ten. */
function decades(values, least) {
  const known = values.filter((value) => value > 0);
  const low = known.length ? Math.min(...known) : least, high = known.length ? Math.max(...known) : least * 10;
  const bottom = 10 ** Math.floor(Math.log10(low)), top = 10 ** Math.ceil(Math.log10(high * 1.0001));
  return [bottom, Math.max(top, bottom * 10)];
}

function path(points) {
  let text = "", isDown = false;
  for (const [x, y] of points) {
    if (y === null) { isDown = false; continue; }
    text += `${isDown ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    isDown = true;
  }
  return text;
}

/** Where the pointer is, as a place in the history; the lines' values there are told. */
function pointer(host, history, tell) {
  const leave = () => tell(null);
  host.addEventListener("pointermove", (event) => {
    const box = host.getBoundingClientRect();
    const part = (event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT);
    tell(part >= 0 && part <= 1 ? Math.round((part - 1) * (spanOf(history) - 1)) : null);
  });
  host.addEventListener("pointerleave", leave);
}

/**
 * Lines over the last five minutes: `series` are `{name, colour, of: snapshot => number or null}`, `text`
 * writes a value with its unit.
 */
export function lines({ label, series, text, height = 190, isLog = false, least = 1, floor = 0, history, signal }) {
  const marks = legend(series.map((one) => [one.name, one.colour]));
  let place = null;
  const tell = () => {
    const of = place === null ? history[history.length - 1] : history[history.length - 1 + place];
    series.forEach((one, at) => {
      const value = of && one.of(of);
      marks.set(at, value === null || value === undefined ? "–" : text(value));
    });
  };
  const draw = (width) => {
    const columns = series.map((one) => history.map(one.of));
    const all = columns.flat().filter((value) => value !== null);
    const [min, max] = isLog ? decades(all, least) : [0, roundUp(Math.max(floor, ...all))];
    const y = scale(max, height, min, isLog);
    const span = spanOf(history), inner = width - LEFT - RIGHT;
    const x = (at) => LEFT + inner * (1 - (history.length - 1 - at) / (span - 1));
    const ticks = isLog ? powers(min, max) : [0, max / 2, max];
    const drawn = columns.map((values, at) => {
      const line = s("path", { class: "line", d: path(values.map((value, index) => [x(index), value === null ? null : y(value)])) });
      line.style.stroke = `var(${series[at].colour})`;
      return line;
    });
    const cross = place !== null && history.length - 1 + place >= 0
      ? s("line", { class: "cross", x1: x(history.length - 1 + place), x2: x(history.length - 1 + place), y1: TOP, y2: height - BOTTOM }) : null;
    return drawing(width, height, ticks.map((value) => gridLine(y(value), LEFT, width - RIGHT, text(value))), timeTicks(span, LEFT, inner, height - 5), drawn, cross);
  };
  const picture = chart({ label, height, draw, signal });
  pointer(picture.node, history, (next) => { if (next !== place) { place = next; tell(); picture.redraw(); } });
  return { node: h("div", {}, marks.node, picture.node), redraw() { tell(); picture.redraw(); } };
}

function powers(min, max) {
  const found = [];
  for (let value = min; value <= max * 1.001; value *= 10) found.push(value);
  return found;
}

/* The curve: which latency which part of the requests does not pass. */

const QUANTILES = [0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999];

/** The value that a part of the counts does not pass; the histogram is `[[up to, count], …]`. */
export function curveOf(buckets) {
  const total = buckets.reduce((sum, [, count]) => sum + count, 0);
  let passed = 0;
  return buckets.map(([upTo, count]) => {
    passed += count;
    return { upTo, part: passed / total };
  });
}

/** Series are `{name, colour, buckets}`; both axes are logarithmic. */
export function percentiles({ label, height = 280, series, signal }) {
  const ends = Math.log10(1 / (1 - QUANTILES[QUANTILES.length - 1]));
  const draw = (width) => {
    const shown = series().filter((one) => one.buckets.length);
    const [min, max] = decades(shown.flatMap((one) => one.buckets.map(([upTo]) => upTo)), 1_000);
    const y = scale(max, height, min, true);
    const x = (part) => LEFT + (width - LEFT - RIGHT) * Math.min(1, Math.log10(1 / Math.max(1 - part, 10 ** -ends)) / ends);
    const drawn = shown.map((one) => {
      let before = LEFT, text = "";
      for (const { upTo, part } of curveOf(one.buckets)) {
        text += `${text ? "L" : "M"}${before.toFixed(1)} ${y(upTo).toFixed(1)}L${x(part).toFixed(1)} ${y(upTo).toFixed(1)}`;
        before = x(part);
      }
      const line = s("path", { class: "line", d: text });
      line.style.stroke = `var(${one.colour})`;
      return line;
    });
    // Where there is little room every second label goes.
    const labelled = (at) => width > 440 || at % 2 === 1;
    const columns = QUANTILES.map((part, at) => [
      s("line", { class: "grid-line", x1: x(part), x2: x(part), y1: TOP, y2: height - BOTTOM }),
      s("text", { class: "tick", x: x(part), y: height - 5, "text-anchor": part > 0.9999 ? "end" : "middle" }, labelled(at) ? `${+(part * 100).toFixed(4)} %` : ""),
    ]);
    return drawing(width, height, powers(min, max).map((value) => gridLine(y(value), LEFT, width - RIGHT, join(ns(value)))), columns, drawn);
  };
  return chart({ label, height, draw, signal });
}
