// Where the time of requests goes: a route and its stages, since the start or in the last minutes.

import { get } from "./api.js";
import { h, head, panel, table, trouble } from "./dom.js";
import { count, join, moment, ns, rate, words } from "./format.js";
import { COLOURS, legend } from "./charts.js";
import { percentiles } from "./chart_lines.js";
import { heatMap } from "./chart_heat.js";
import { history, latest, live } from "./live.js";

const AGAIN_MS = 2_000;
const STAGES = { receive: "Receive", decode: "Decode", decide: "Decide", append: "Append (part of decide)", sync_wait: "Wait for the sync", reply: "Reply" };

/** All routes of a report, with those that gateways' frames stand for under the name that they have in snapshots. */
const routesOf = (report) => (report ? [...report.routes, ...report.gateway.map((route) => ({ ...route, method: `gateway ${route.method}` }))] : []);
const nameOf = (route) => `${route.method} ${route.route}`;

/** Histograms added up: `[[up to, count], …]`, ascending. */
function merged(histograms) {
  const sums = new Map();
  for (const buckets of histograms) for (const [upTo, number] of buckets) sums.set(upTo, (sums.get(upTo) ?? 0) + number);
  return [...sums].sort((a, b) => a[0] - b[0]);
}

/** The figures of a histogram, as the server gives them. */
function figuresOf(buckets) {
  const total = buckets.reduce((sum, [, number]) => sum + number, 0);
  const at = (part) => {
    let passed = 0;
    for (const [upTo, number] of buckets) { passed += number; if (passed >= Math.max(1, Math.ceil(total * part))) return upTo; }
    return 0;
  };
  return { count: total, buckets, p50_ns: at(0.5), p90_ns: at(0.9), p99_ns: at(0.99), p999_ns: at(0.999), max_ns: buckets.at(-1)?.[0] ?? 0 };
}

/** The routes of the last minutes: the live snapshots added up. */
function recent() {
  const routes = new Map();
  for (const snapshot of history) {
    for (const route of snapshot.routes) {
      const known = routes.get(nameOf(route)) ?? { route: route.route, method: route.method, total: [], stages: new Map() };
      known.total.push(route.total.buckets);
      for (const stage of route.stages) known.stages.set(stage.stage, [...(known.stages.get(stage.stage) ?? []), stage.buckets]);
      routes.set(nameOf(route), known);
    }
  }
  const inOrder = (stages) => Object.keys(STAGES).filter((stage) => stages.has(stage)).map((stage) => ({ stage, ...figuresOf(merged(stages.get(stage))) }));
  return [...routes.values()].map((one) => ({ route: one.route, method: one.method, total: figuresOf(merged(one.total)), stages: inOrder(one.stages) }));
}

const duration = (name) => (row) => join(ns(row[name]));
const FIGURES = [["p50", "p50_ns"], ["p90", "p90_ns"], ["p99", "p99_ns"], ["p99.9", "p999_ns"], ["Max", "max_ns"]].map(([name, of]) => ({ name, kind: "num", of: duration(of) }));

export async function show(root, { query, signal }) {
  const select = h("select", { id: "route" }), span = h("select", { id: "span" }, h("option", { value: "start" }, "Since the start"), h("option", { value: "recent" }, "Last five minutes"));
  const stage = h("select", { id: "stage" });
  let report = null, wanted = query.get("route");
  const chosen = () => {
    const routes = span.value === "recent" ? recent() : routesOf(report);
    return routes.find((route) => nameOf(route) === select.value);
  };
  const all = () => {
    const route = chosen();
    return route ? [{ stage: "total", ...route.total }, ...route.stages] : [];
  };
  const name = (of) => (of === "total" ? "The whole request" : (STAGES[of] ?? words(of)));
  const colourOf = (of) => (of === "total" ? COLOURS[0] : COLOURS[1 + (Object.keys(STAGES).indexOf(of) % 6)]);
  const marks = h("div");
  const curve = percentiles({ label: "Latency by percentile, for the whole request and each stage", series: () => all().map((one) => ({ colour: colourOf(one.stage), buckets: one.buckets })), signal });
  const heat = heatMap({
    label: "Latencies of the route over the last five minutes", history, signal,
    of: (snapshot) => {
      const route = snapshot.routes.find((one) => nameOf(one) === select.value);
      return stage.value === "total" ? route?.total.buckets : route?.stages.find((one) => one.stage === stage.value)?.buckets;
    },
  });
  const bars = h("div.bars");
  const stages = table("Stages", [{ name: "Stage", of: (one) => name(one.stage) }, { name: "Requests", kind: "num", of: (one) => count(one.count) }, ...FIGURES], "Nobody asked for this route in this time.");
  const routes = table("All routes", [
    { name: "Route", kind: "id", of: (one) => h("button.link", { type: "button", onclick: () => { select.value = nameOf(one); update(); } }, nameOf(one)) },
    { name: "Requests", kind: "num", of: (one) => count(one.total.count) },
    { name: "Now", kind: "num", of: (one) => {
      const now = latest()?.routes.find((other) => nameOf(other) === nameOf(one));
      return join(rate(now ? (now.total.count * 1000) / latest().interval_ms : 0));
    } },
    ...FIGURES.map((column) => ({ ...column, of: (one) => column.of(one.total) })),
  ], [h("strong", {}, "No requests yet"), "As soon as somebody asks, routes stand here."]);
  const log = table("The log", [{ name: "The log’s own", of: (one) => one.name }, { name: "Count", kind: "num", of: (one) => count(one.count) }, ...FIGURES], "Nothing was appended yet.");
  const since = h("span");

  root.append(head("Latency", "Where the time of requests goes: by route, by stage, and over time."),
    h("div.filters", {}, h("div", {}, h("label", { for: "route" }, "Route"), select), h("div", {}, h("label", { for: "span" }, "Time"), span), h("div", {}, h("label", { for: "stage" }, "Heat map of"), stage)),
    h("div.grid", {},
      panel("Percentiles", "both axes logarithmic", h("div.body", {}, marks, curve.node)),
      panel("Heat map", "the last five minutes, a column a second", h("div.body", {}, heat.node)),
      panel("Median and 99th percentile by stage", "the bar is p50, its light end p99", h("div.body", {}, bars)),
      panel("Stages", null, stages.node),
      h("div.wide", {}, panel("All routes", since, routes.node)),
      h("div.wide", {}, panel("The log", "append: one record in 64; sync: of a group", log.node))));

  const options = (node, values, texts, keep) => {
    if (values.join("\n") !== [...node.options].map((one) => one.value).join("\n")) {
      const before = keep ?? node.value;
      node.replaceChildren(...values.map((value, at) => h("option", { value }, texts[at])));
      if (values.includes(before)) node.value = before;
    }
  };
  const fillBars = () => {
    const shown = all();
    const most = Math.max(1, ...shown.map((one) => one.p99_ns));
    bars.replaceChildren(...shown.flatMap((one) => {
      const light = h("i"), full = h("i");
      Object.assign(light.style, { width: `${(100 * one.p99_ns) / most}%`, background: `color-mix(in srgb, var(${colourOf(one.stage)}) 35%, transparent)` });
      Object.assign(full.style, { width: `${(100 * one.p50_ns) / Math.max(1, one.p99_ns)}%`, background: `var(${colourOf(one.stage)})` });
      light.append(full);
      return [h("span", {}, name(one.stage)), h("div", {}, light), h("span.num", {}, `${join(ns(one.p50_ns))} · ${join(ns(one.p99_ns))}`)];
    }));
  };
  const update = () => {
    const listed = span.value === "recent" ? recent() : routesOf(report);
    const byCount = [...listed].sort((a, b) => b.total.count - a.total.count);
    const names = byCount.map(nameOf).sort();
    const first = byCount.find((one) => one.method !== "GET") ?? byCount[0];
    options(select, names, names, wanted ?? (select.value || (first && nameOf(first))));
    if (names.length) wanted = null;
    const shown = all();
    options(stage, ["total", ...Object.keys(STAGES)], ["The whole request", ...Object.values(STAGES)]);
    marks.replaceChildren(legend(shown.map((one) => [name(one.stage), colourOf(one.stage)]), false).node);
    curve.redraw(); heat.redraw(); fillBars();
    stages.fill(shown);
    routes.fill(byCount);
    if (report) {
      log.fill([["Append of a record", report.log.append], ["Sync of a group", report.log.sync]].filter(([, of]) => of.count).map(([of, figures]) => ({ name: of, ...figures })));
      since.replaceChildren(...(span.value === "recent" ? ["last five minutes"] : ["since ", moment(report.since)]));
    }
  };
  const read = async () => { report = await get("/v1/latency", { signal }); update(); };
  for (const node of [select, span, stage]) node.addEventListener("change", update);
  const again = setInterval(() => read().catch(() => {}), AGAIN_MS);
  signal.addEventListener("abort", () => clearInterval(again));
  live.addEventListener("snapshot", () => heat.redraw(), { signal });
  try {
    await read();
  } catch (error) {
    if (!signal.aborted) root.append(trouble(error));
  }
}
