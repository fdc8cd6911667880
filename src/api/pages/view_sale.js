// The sale as it goes: rates by outcome, how long decisions take, what sells.

import { figure, h, head, panel, table } from "./dom.js";
import { count, join, ns, percent, rate } from "./format.js";
import { lines } from "./chart_lines.js";
import { heatMap } from "./chart_heat.js";
import { history, latest, live } from "./live.js";

/** What a snapshot counted of something, per second; nothing in the first. */
const perSecond = (of) => (snapshot) => (snapshot.interval_ms ? (of(snapshot.counted) * 1000) / snapshot.interval_ms : null);

const OUTCOMES = [
  ["Granted", "--c1", (c) => c.granted],
  ["Sold out", "--c6", (c) => c.refused_stock],
  ["Customer limit", "--c3", (c) => c.refused_limit],
  ["Other refusal", "--c4", (c) => c.refused_other],
  ["Repeat", "--c5", (c) => c.replayed],
].map(([name, colour, of]) => ({ name, colour, of: perSecond(of) }));

const LATER = [
  ["Committed", "--c1", (c) => c.committed],
  ["Released", "--c5", (c) => c.released],
  ["Expired", "--c2", (c) => c.expired],
].map(([name, colour, of]) => ({ name, colour, of: perSecond(of) }));

const quantile = (name) => (snapshot) => (snapshot.decisions.count ? snapshot.decisions[name] : null);
const LATENCIES = [
  ["p50", "--c1", "p50_ns"], ["p99", "--c2", "p99_ns"], ["p99.9", "--c3", "p999_ns"], ["max", "--c4", "max_ns"],
].map(([name, colour, of]) => ({ name, colour, of: quantile(of) }));

/** How far a SKU is sold: a bar of sold, held and free. */
function sold(row) {
  const all = Math.max(1, row.available + row.held + row.sold);
  const part = (units, kind) => {
    const node = h(`i.${kind}`);
    node.style.width = `${(100 * Math.max(0, units)) / all}%`;
    return node;
  };
  return h("div.meter", { role: "img", "aria-label": `${row.sold} sold, ${row.held} held, ${row.available} available` }, part(row.sold, "sold"), part(row.held, "held"));
}

const COLUMNS = [
  { name: "SKU", kind: "id", of: (row) => row.sku },
  { name: "Sold and held", kind: "gauge", of: sold },
  { name: "Sold", kind: "num", of: (row) => join(percent((100 * row.sold) / Math.max(1, row.available + row.held + row.sold))) },
  { name: "Sold, units", kind: "num", of: (row) => count(row.sold) },
  { name: "To ship, units", kind: "num", of: (row) => count(row.committed) },
  { name: "Held, units", kind: "num", of: (row) => count(row.held) },
  { name: "Available, units", kind: "num", of: (row) => (row.available > 0 ? count(row.available) : h("b.out", {}, row.available < 0 ? count(row.available) : "sold out")) },
];

export function show(root, { signal }) {
  const figures = {
    asked: figure("Decisions", "Reservations asked for, granted or refused, in the last second"),
    granted: figure("Granted"), refused: figure("Sold out"),
    p50: figure("p50", "Half of the decisions of the last second took no longer"),
    p99: figure("p99"), open: figure("Held", "Reservations held now"), orders: figure("Placed", "Orders, ever"), oversold: figure("Oversold", "Units that reservations took below zero: always 0"),
  };
  const outcomes = lines({ label: "Decisions by outcome, last five minutes", series: OUTCOMES, text: (v) => join(rate(v)), history, signal });
  const later = lines({ label: "What became of reservations, last five minutes", series: LATER, text: (v) => join(rate(v)), history, signal });
  const latencies = lines({ label: "Latency of decisions by percentile, last five minutes", series: LATENCIES, text: (v) => join(ns(v)), isLog: true, least: 10_000, history, signal });
  const heat = heatMap({ label: "Latencies of decisions over the last five minutes: darker is more", of: (snapshot) => snapshot.decisions.buckets, history, signal });
  const skus = table("SKUs in demand", COLUMNS, [h("strong", {}, "Nothing is sold or held"), "As soon as somebody reserves, the SKUs in demand stand here."]);

  root.append(
    head("Sale", "What is asked for and what becomes of it, second by second."),
    h("dl.figures", {}, Object.values(figures).map((one) => one.node)),
    h("div.grid.four", {},
      panel("Decisions by outcome", "per second", h("div.body", {}, outcomes.node)),
      panel("Latency of decisions", "each second’s percentiles", h("div.body", {}, latencies.node)),
      panel("Latency heat map", "a column a second; stronger is more", h("div.body", {}, heat.node)),
      panel("What became of reservations", "per second", h("div.body", {}, later.node)),
      h("div.wide", {}, panel("Sell-through", "the SKUs of which most is held and sold", skus.node))));

  const update = () => {
    const now = latest();
    if (!now) return;
    const of = (read) => perSecond(read)(now) ?? 0;
    const asked = of((c) => c.granted + c.refused_stock + c.refused_limit + c.refused_other + c.replayed);
    const { status, decisions } = now;
    figures.asked.set(rate(asked), `${count(now.in_flight)} under way`);
    figures.granted.set(rate(of((c) => c.granted)), `${count(status.counters.granted)} so far`);
    figures.refused.set(rate(of((c) => c.refused_stock)), `${count(status.counters.refused_stock)} so far`);
    figures.p50.set(decisions.count ? ns(decisions.p50_ns) : ["–", ""], "last second");
    figures.p99.set(decisions.count ? ns(decisions.p99_ns) : ["–", ""], decisions.count ? `max ${join(ns(decisions.max_ns))}` : "last second");
    figures.open.set([count(status.open_reservations), "carts"], `${join(percent((100 * status.reservations) / status.reservations_max))} of the table`);
    figures.orders.set([count(status.orders), "orders"], `${join(rate(of((c) => c.orders_placed)))} now`);
    figures.oversold.set([count(status.oversold), "units"], status.shortfall ? `${count(status.shortfall)} units short` : "law: always 0", status.oversold ? "bad" : "");
    outcomes.redraw(); later.redraw(); latencies.redraw(); heat.redraw();
    skus.fill(now.stock);
  };
  live.addEventListener("snapshot", update, { signal });
  update();
}
