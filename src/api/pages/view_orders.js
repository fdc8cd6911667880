// An order, found by its id or by a reservation or customer: what it is, and its lineage as a timeline.

import { get, part } from "./api.js";
import { chip, facts, h, head, panel, table, trouble } from "./dom.js";
import { count, join, moment, money, ms, words } from "./format.js";

const STATES = { held: "warn", committed: "good", fulfilled: "good", released: "", expired: "", cancelled: "bad" };
const BATCHES = { delivered: "good", partly_delivered: "bad", sealed: "warn", refused: "bad" };

/** What can be looked for. */
const KINDS = [["order", "Order id"], ["reservation", "Reservation id"], ["customer", "Customer"]];

function searchForm(kind, text) {
  const select = h("select", { "aria-label": "What to look for", name: "kind", value: kind }, KINDS.map(([of, name]) => h("option", { value: of }, name)));
  select.value = kind;
  const input = h("input", { type: "search", "data-search": true, "aria-label": "Id to look for", value: text, placeholder: "An id, exactly as it was given", autocomplete: "off", spellcheck: "false", maxlength: "64" });
  const submit = (event) => {
    event.preventDefault();
    const id = input.value.trim();
    if (id) location.hash = select.value === "order" ? `#/orders/${part(id)}` : `#/orders?${select.value}=${part(id)}`;
  };
  return { node: h("form.search.panel", { role: "search", onsubmit: submit }, h("div.body.search", {}, select, input, h("button.main", { type: "submit" }, "Find"))), input };
}

/** Members of a record that are amounts of money. */
const AMOUNTS = new Set(["amount", "fee", "tax", "shipping", "shipping_tax", "total", "total_tax"]);

/** What a record says, in one line, with the whole of it to open. */
function says(record, currency) {
  const { lines, ...others } = record.says ?? {};
  const valueOf = (name, value) => (AMOUNTS.has(name) && Number.isInteger(value) ? money(value, currency) : value);
  const parts = Object.entries(others).filter(([, value]) => value !== null && value !== "" && typeof value !== "object").map(([name, value]) => `${words(name)} ${valueOf(name, value)}`);
  if (Array.isArray(lines)) parts.unshift(lines.map((line) => `${line.quantity ?? ""} × ${line.sku ?? ""}${line.location ? ` at ${line.location}` : ""}`).join(", "));
  return [
    parts.length ? h("p.says", {}, parts.slice(0, 8).join(" · ")) : null,
    h("details", {}, h("summary", {}, "The whole record"), h("pre", { tabindex: "0" }, JSON.stringify(record, null, 2))),
  ];
}

function batchItem(batch) {
  return h("li", { "data-sink": batch.sink },
    h("div.row", {}, h("strong", {}, batch.sink), chip(batch.state, BATCHES[batch.state] ?? ""), batch.status ? h("span.mono", {}, `status ${batch.status}`) : null,
      h("span.mono.soft", {}, batch.batch_id ?? "sums are zero: nothing to send")),
    h("div.soft", {}, "sealed ", moment(batch.sealed_at, true), `, ${join(ms(batch.waited_ms))} after the record`,
      batch.answered_at ? [" · answered ", moment(batch.answered_at, true), `, ${join(ms(batch.delivery_ms ?? 0))} later`] : null,
      batch.letter ? [" · dead letter ", h("span.mono", {}, batch.letter), " sent again"] : null,
      batch.attempts ? ` · ${count(batch.attempts)} ${batch.attempts === 1 ? "attempt" : "attempts"}` : null),
    batch.answer ? h("div.answer", {}, `The partner said: ${batch.answer}`) : null);
}

function parkedItem(parked) {
  return h("li", {}, h("div.row", {}, h("strong", {}, parked.sink), chip(parked.released_at ? "was parked" : "parked", parked.released_at ? "" : "warn")),
    h("div.soft", {}, "it came before what must come first; parked ", moment(parked.parked_at, true), parked.released_at ? [", released ", moment(parked.released_at, true)] : null));
}

const recordItem = (currency) => (record, at) => {
  return h("li", { "data-kind": record.kind },
    h("div.what", {}, h("strong", {}, words(record.kind)), h("span.mono", {}, record.id), moment(record.at),
      at > 0 ? h("span.gap", {}, `+${join(ms(record.since_previous_ms))}`) : null, h("span.gap", {}, `log position ${count(record.lsn)}`),
      record.request_id ? h("span.gap", { title: record.traceparent }, "request ", h("span.mono", {}, record.request_id)) : null),
    says(record, currency),
    record.parked?.length || record.batches.length ? h("ul.batches", {}, (record.parked ?? []).map(parkedItem), record.batches.map(batchItem)) : null);
};

function orderPanel(order) {
  const lines = table("Lines of the order", [
    { name: "SKU", kind: "id", of: (line) => line.sku },
    { name: "Sold, units", kind: "num", of: (line) => count(line.quantity) },
    { name: "Open, units", kind: "num", of: (line) => count(line.open_quantity) },
    { name: "Shipped, units", kind: "num", of: (line) => count(line.shipped ?? 0) },
    { name: "Unit price", kind: "num", of: (line) => money(line.unit_price, order.currency) },
  ], "No lines.");
  lines.fill(order.lines);
  const { total, total_tax, shipping } = order;
  const amounts = Object.entries({ total, total_tax, shipping, ...order.money });
  return panel(`Order ${order.order_id}`, chip(order.state, STATES[order.state] ?? ""),
    h("div.body", {}, facts([
      ["Age", join(ms(order.age_ms ?? 0))], ["Priority", order.priority], ["Prices", order.prices],
      ["Promised to ship", order.promised_ship_at ? moment(order.promised_ship_at) : null],
      ...amounts.map(([name, value]) => [words(name), money(value, order.currency)]),
    ])), lines.node);
}

async function showOrder(into, id, signal) {
  const [order, trace] = await Promise.all([
    get(`/v1/orders?order_id=${part(id)}`, { signal }),
    get(`/v1/orders/${part(id)}/trace`, { signal }).catch((error) => error),
  ]);
  const lineage = trace instanceof Error ? trouble(trace) : h("ol.timeline", { "aria-label": "Lineage" }, trace.records.map(recordItem(order.currency)));
  const left = trace.archived ? h("p.note-box.warn", {}, "Its first records are no longer in the log; they are in the archive.") : trace.truncated ? h("p.note-box.warn", {}, "It has more records than are shown: these are the last ones.") : null;
  into.replaceChildren(h("div.stack", {}, orderPanel(order), left,
    panel("Lineage", trace.records ? `${count(trace.records.length)} records over ${join(ms(trace.age_ms))}` : null, lineage)));
}

async function showReservations(into, query, signal) {
  const page = await get(`/v1/reservations?${query}`, { signal });
  const found = table("Reservations", [
    { name: "Reservation", kind: "id", of: (one) => h("a", { href: `#/orders?reservation=${part(one.id)}` }, one.id) },
    { name: "State", of: (one) => chip(one.state, STATES[one.state] ?? "") },
    { name: "Lines", kind: "long", of: (one) => one.lines.map((line) => `${line.quantity} × ${line.sku} at ${line.location}`).join(", ") },
    { name: "Expires", of: (one) => (one.expires_at ? moment(one.expires_at) : "–") },
    { name: "Order", kind: "id", of: (one) => (one.order_id ? h("a", { href: `#/orders/${part(one.order_id)}` }, one.order_id) : "–") },
  ], [h("strong", {}, "No reservations"), "The server knows of none, or no longer keeps them."]);
  found.fill(page.reservations);
  into.replaceChildren(panel("Reservations", `${count(page.reservations.length)} found`, found.node));
}

async function showReservation(into, id, signal) {
  const one = await get(`/v1/reservations/${part(id)}`, { signal });
  if (one.order_id) return showOrder(into, one.order_id, signal);
  into.replaceChildren(panel(`Reservation ${one.id}`, chip(one.state, STATES[one.state] ?? ""), h("div.body", {}, facts([
    ["Lines", one.lines.map((line) => `${line.quantity} × ${line.sku} at ${line.location}`).join(", ")],
    ["Expires", one.expires_at ? moment(one.expires_at) : null], ["Last record", `log position ${count(one.lsn)}`],
  ]))));
}

export async function show(root, { rest, query, signal }) {
  const [kind, text] = rest ? ["order", rest] : KINDS.map(([of]) => [of, query.get(of)]).find(([, value]) => value) ?? ["order", ""];
  const search = searchForm(kind, text);
  const result = h("div", { "aria-live": "polite" });
  root.append(h("div.stack", {}, head("Orders", "Where an order comes from, and every batch that carried it to a partner."), search.node, result));
  if (!text) {
    result.append(h("div.empty.panel", {}, h("strong", {}, "Look for an order"), "Give its id, that of its reservation, or the customer’s."));
    return search.input.focus();
  }
  result.append(h("p.waiting", {}, "Reading the log …"));
  try {
    if (kind === "order") await showOrder(result, text, signal);
    else if (kind === "customer") await showReservations(result, `customer=${part(text)}&limit=100`, signal);
    else await showReservation(result, text, signal);
  } catch (error) {
    if (!signal.aborted) result.replaceChildren(trouble(error));
  }
}
