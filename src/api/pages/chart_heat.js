// A heat map of latencies over the last minutes: a column a second, a cell for each bucket of the server's
// coarse histograms, an eighth of a power of two wide.

import { h } from "./dom.js";
import { chart, colour, drawing, gridLine, spanOf, timeTicks } from "./charts.js";
import { join, ns } from "./format.js";

const LEFT = 56, RIGHT = 8, TOP = 8, BOTTOM = 20;
/** Buckets in a power of two, as bits. */
const PART_BITS = 3;

/** Where a bucket begins that ends at a value. */
const beginOf = (upTo) => upTo + 1 - 2 ** Math.max(0, Math.floor(Math.log2(Math.max(1, upTo))) - PART_BITS);

/** The rows that are shown: around what there is, whole powers of ten. */
function bounds(columns) {
  let low = Infinity, high = 0;
  for (const buckets of columns) {
    if (!buckets?.length) continue;
    low = Math.min(low, buckets[0][0]);
    high = Math.max(high, buckets[buckets.length - 1][0]);
  }
  if (high === 0) [low, high] = [10_000, 10_000_000];
  return [10 ** Math.floor(Math.log10(low)), 10 ** Math.ceil(Math.log10(high + 1))];
}

function paint(columns, span, [min, max], width, height) {
  const canvas = h("canvas");
  const ratio = Math.min(devicePixelRatio || 1, 3);
  Object.assign(canvas, { width: width * ratio, height: height * ratio });
  Object.assign(canvas.style, { left: `${LEFT}px`, top: `${TOP}px`, width: `${width}px`, height: `${height}px` });
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const most = Math.max(1, ...columns.flatMap((buckets) => (buckets ?? []).map(([, count]) => count)));
  const y = (value) => height * (1 - Math.log(Math.max(value, 1) / min) / Math.log(max / min));
  const wide = width / span;
  const rgb = colour("--heat");
  columns.forEach((buckets, at) => {
    const x = width - (columns.length - at) * wide;
    for (const [upTo, count] of buckets ?? []) {
      const strength = 0.12 + 0.88 * (Math.log1p(count) / Math.log1p(most));
      context.fillStyle = `rgba(${rgb}, ${strength.toFixed(3)})`;
      const top = y(upTo + 1);
      context.fillRect(x, top, wide + 0.3, Math.max(y(beginOf(upTo)) - top, 1));
    }
  });
  return canvas;
}

/** `of(snapshot)` gives the buckets of a column. */
export function heatMap({ label, of, height = 230, history, signal }) {
  const draw = (width) => {
    const columns = history.map(of);
    const [min, max] = bounds(columns);
    const inner = [width - LEFT - RIGHT, height - TOP - BOTTOM];
    const y = (value) => TOP + inner[1] * (1 - Math.log(value / min) / Math.log(max / min));
    const ticks = [];
    for (let value = min; value <= max * 1.001; value *= 10) ticks.push(gridLine(y(value), LEFT, width - RIGHT, join(ns(value))));
    const span = spanOf(history);
    return [drawing(width, height, ticks, timeTicks(span, LEFT, inner[0], height - 5)), paint(columns, span, [min, max], ...inner)];
  };
  return chart({ label, height, draw, signal });
}
