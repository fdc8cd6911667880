// A partner's stock against the ledger's: compared on demand, what differs by its cause.

import { get, part, send } from "./api.js";
import { chip, facts, h, head, table, trouble } from "./dom.js";
import { say, inWords } from "./dialog.js";
import { count, join, moment, ms } from "./format.js";

const STATES = { agrees: "good", drift: "bad", failed: "warn" };
const signed = (value) => (value > 0 ? `+${count(value)}` : count(value).replace("-", "−"));

function drifts(report) {
  const list = table(`Differences at ${report.sink}`, [
    { name: "SKU", kind: "id", of: (one) => one.sku },
    { name: "Location", of: (one) => one.location ?? "all" },
    { name: "Figure", of: (one) => (one.figure === "on_hand" ? "on hand" : one.figure) },
    { name: "Ledger, units", kind: "num", of: (one) => count(one.ledger) },
    { name: "Partner, units", kind: "num", of: (one) => count(one.partner) },
    { name: "In flight", kind: "num", of: (one) => signed(one.in_flight), title: "On its way: read and not sealed, or sealed and not acknowledged" },
    { name: "Dead letters", kind: "num", of: (one) => signed(one.dead_lettered) },
    { name: "Unexplained", kind: "num", of: (one) => (one.unexplained ? h("b.out", {}, signed(one.unexplained)) : "0") },
  ], [h("strong", {}, "Every figure agrees"), `${count(report.positions)} positions were compared.`]);
  list.fill(report.drifts);
  return list.node;
}

function reportOf(report) {
  if (report.state === "failed")
    return h("div.body", {}, h("div.note-box.warn", {}, h("strong", {}, "There is no comparison"), h("div", {}, report.reason ?? "")));
  const took = new Date(report.finished_at) - new Date(report.started_at);
  return [h("div.body", {}, facts([
    ["Compared", [moment(report.finished_at), ` in ${join(ms(took))}`]], ["At the log’s position", count(report.compared_lsn)],
    ["Positions", `${count(report.positions)} compared, ${count(report.positions_elsewhere)} of the partner’s are not the sink’s`],
    ["Explained", `${count(report.in_flight_positions)} by what is on its way, ${count(report.dead_lettered_positions)} by dead letters`],
    ["Unexplained", report.unexplained_positions ? chip(`${count(report.unexplained_positions)} figures`, "bad") : "0 figures"],
    report.drifts_left_off ? ["Not shown", `${count(report.drifts_left_off)} more differences`] : null,
  ])), drifts(report)];
}

function sinkPanel(sink, signal) {
  const body = h("div", { "aria-live": "polite" });
  let state = chip("not compared");
  const button = h("button.main.small", { type: "button", "data-deed": "reconcile" }, "Compare now");
  const show = (report) => {
    const next = chip(report.state, STATES[report.state] ?? "");
    state.replaceWith(next);
    state = next;
    body.replaceChildren(...[reportOf(report)].flat());
  };
  button.addEventListener("click", async () => {
    button.disabled = true;
    button.textContent = "Comparing …";
    try {
      const report = await send("POST", `/v1/sinks/${part(sink.name)}/reconcile`);
      show(report);
      say(`${sink.name}: ${report.state === "agrees" ? "every figure agrees or is explained" : report.state}.`, report.state === "agrees" ? "good" : "warn");
    } catch (error) {
      say(inWords(error), "bad");
      body.replaceChildren(trouble(error));
    } finally {
      button.disabled = false;
      button.textContent = "Compare now";
    }
  });
  const node = h("section.panel", { "aria-label": `Reconciliation of ${sink.name}`, "data-sink": sink.name },
    h("header", {}, h("h2", {}, sink.name), state, h("div.aside", {}, button)), body);
  if (!sink.reconciliation) {
    body.replaceChildren(h("div.empty", {}, h("strong", {}, "Not compared since the start"), "Compare now reads the partner’s stock; nothing is changed."));
    return node;
  }
  get(`/v1/sinks/${part(sink.name)}/reconciliation`, { signal }).then(show, (error) => { if (!signal.aborted) body.replaceChildren(trouble(error)); });
  return node;
}

export async function show(root, { signal }) {
  const list = h("div.stack");
  root.append(head("Reconciliation", "Whether a partner has the stock that the ledger says: what differs is on its way, lies dead, or is an alert."), list);
  const { sinks } = await get("/v1/sinks", { signal });
  const compared = sinks.filter((sink) => sink.domain === "inventory");
  if (compared.length) list.append(...compared.map((sink) => sinkPanel(sink, signal)));
  else list.append(h("div.empty.panel", {}, h("strong", {}, "No sink keeps stock"), "Only sinks of the domain inventory can be compared."));
}
