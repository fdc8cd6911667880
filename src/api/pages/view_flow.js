// How what was sold gets to the partners: each sink, what waits, and what may be done about it.

import { part, send } from "./api.js";
import { chip, h, head, pairs, setChip, setText } from "./dom.js";
import { confirm, forceField, reasonField } from "./dialog.js";
import { count, join, moment, ms, rate, words } from "./format.js";
import { lines } from "./chart_lines.js";
import { history, latest, live } from "./live.js";

const STATES = { running: "good", paused: "warn", broken: "bad" };
const BREAKERS = { closed: ["breaker closed", "good"], half_open: ["breaker probing", "warn"], open: ["breaker open", "bad"] };

const path = (sink, deed) => `/v1/sinks/${part(sink)}/${deed}`;
const why = ({ reason, force }) => ({ ...(reason?.trim() ? { reason: reason.trim() } : {}), ...(force ? { force } : {}) });

const DEEDS = {
  pause: (sink) => ({
    title: `Pause ${sink}`, text: "No attempt is made until it is resumed, over restarts too. Batches grow wider meanwhile; no reservation waits for it.",
    fields: [reasonField()], button: "Pause", act: (values) => send("POST", path(sink, "pause"), why(values)), done: `${sink} is paused.`,
  }),
  resume: (sink) => ({
    title: `Resume ${sink}`, text: "Attempts are made again.",
    fields: [reasonField()], button: "Resume", act: (values) => send("POST", path(sink, "resume"), why(values)), done: `${sink} is resumed.`,
  }),
  skip: (sink) => ({
    title: `Skip the oldest batch of ${sink}`, text: "The oldest batch under way is set aside as a dead letter, so that the next can go. It is not lost: it can be sent again from there.",
    fields: [reasonField()], button: "Skip the batch", danger: true, act: (values) => send("POST", path(sink, "skip"), why(values)), done: "The batch is set aside.",
  }),
  replay: (sink) => ({
    title: `Replay ${sink}`, text: "Sealed batches are sent again, with the ids and bytes that they had, before anything new: for a partner that lost them.",
    fields: [
      { name: "from_lsn", label: "From the position in the log", hint: "A whole number; or leave it empty and give a time." },
      { name: "from_time", label: "From the time (UTC)", hint: "As 2026-11-27T08:00:00.000Z" },
      reasonField(), forceField,
    ],
    button: "Replay", danger: true, act: (values) => send("POST", path(sink, "replay"), replayBody(values)), done: (said) => `${count(said.count)} batches go out again.`,
  }),
};

function replayBody(values) {
  const body = why(values), lsn = values.from_lsn.trim(), time = values.from_time.trim();
  if (lsn && !/^\d{1,15}$/.test(lsn)) throw Object.assign(new Error("This must be a whole number."), { field: "from_lsn" });
  if (lsn) body.from_lsn = Number(lsn);
  if (time) body.from_time = time;
  return body;
}

/** How long something waits is told from a quarter minute on as a warning, from two minutes as trouble. */
const tone = (age) => (age >= 120_000 ? "bad" : age >= 15_000 ? "warn" : "");

function laneRow() {
  const bar = h("i.sold"), name = h("span"), value = h("span.num");
  const node = h("div.lane", {}, name, value, h("div.meter", {}, bar));
  return {
    node,
    set(lane, most) {
      setText(name, lane.priority);
      setText(value, `${count(lane.depth)} ${lane.depth === 1 ? "batch" : "batches"} · ${join(ms(lane.oldest_age_ms))}`);
      bar.style.width = `${Math.min(100, (100 * lane.oldest_age_ms) / most)}%`;
      bar.className = tone(lane.oldest_age_ms) || "sold";
    },
  };
}

/** A sink's panel; its buttons stay where they are while figures change. */
function sinkPanel(name, signal) {
  const state = chip(""), breaker = chip(""), reason = h("p.why", { hidden: true });
  const lag = h("div"), delivered = h("div"), waits = h("div"), lanes = h("div");
  const ask = (deed) => h("button.small" + (deed === "skip" ? ".danger" : ""), { type: "button", "data-deed": deed, onclick: () => confirm(DEEDS[deed](name)) }, deed[0].toUpperCase() + deed.slice(1));
  const buttons = Object.fromEntries(Object.keys(DEEDS).map((deed) => [deed, ask(deed)]));
  const domain = h("span.soft");
  const rows = [];
  const of = (snapshot) => snapshot.sinks.find((sink) => sink.name === name);
  const lagLine = lines({
    label: `Lag of ${name} over the last five minutes`, height: 110, floor: 100, history, signal, text: (v) => join(ms(v)),
    series: [{ name: "Lag", colour: "--c2", of: (snapshot) => of(snapshot)?.lag_ms ?? null }],
  });
  const node = h("section.panel.sink", { "aria-label": `Sink ${name}`, "data-sink": name },
    h("header", {}, h("h2", {}, name), domain, h("div.aside.row", {}, state, breaker)),
    h("div.body", {}, reason,
      h("div", {}, h("h3", {}, "Behind"), lag), h("div", {}, h("h3", {}, "Delivered"), delivered),
      h("div", {}, h("h3", {}, "What waits, and its age"), lanes, h("h3", {}, "Why it waited"), waits),
      h("div", {}, lagLine.node)),
    h("footer", {}, Object.values(buttons), h("a.button.small", { href: `#/dead-letters?sink=${encodeURIComponent(name)}` }, "Dead letters")));

  const update = (sink, before) => {
    setText(domain, sink.domain);
    setChip(state, sink.state, STATES[sink.state] ?? "");
    setChip(breaker, ...(BREAKERS[sink.breaker] ?? [sink.breaker, ""]));
    reason.hidden = !sink.reason;
    setText(reason, sink.reason ?? "");
    buttons.pause.hidden = sink.state === "paused";
    buttons.resume.hidden = sink.state === "running";
    const secondly = (now, was) => (before ? join(rate(Math.max(0, now - was))) : "–");
    lag.replaceChildren(pairs([
      ["Age of the oldest", chipOf(join(ms(sink.lag_ms)), tone(sink.lag_ms))], ["Records", count(sink.lag_records)],
      ["Log position", count(sink.acknowledged_lsn)], ["Dead letters", sink.dead_letters ? chipOf(count(sink.dead_letters), "bad") : "0"],
      sink.parked ? ["Parked records", count(sink.parked)] : null, sink.parked ? ["Oldest parked", join(ms(sink.oldest_parked_age_ms))] : null,
      sink.replaying ? ["Batches to replay", count(sink.replaying)] : null,
    ]));
    const { attempts } = sink;
    delivered.replaceChildren(pairs([
      ["Batches", `${count(sink.batches_delivered)} (${secondly(sink.batches_delivered, before?.batches_delivered)})`],
      ["Records", `${count(sink.events_delivered)} (${secondly(sink.events_delivered, before?.events_delivered)})`],
      ["Requests at once", `${count(sink.concurrency)} at most`], ["Requests under way", count(attempts.under_way)],
      ["Retries", count(sink.retries)], ["Attempts failed", count(attempts.failed)], ["Attempts refused", count(attempts.refused)], ["Attempts denied", count(attempts.denied)],
      ["Breaker openings", count(attempts.breaker_opens)],
      sink.reconciliation ? ["Reconciled", [chipOf(sink.reconciliation.state, { agrees: "good", drift: "bad", failed: "warn" }[sink.reconciliation.state]), " ", moment(sink.reconciliation.finished_at, true)]] : null,
    ]));
    while (rows.length < sink.lanes.length) { const row = laneRow(); rows.push(row); lanes.append(row.node); }
    const most = Math.max(5_000, ...sink.lanes.map((lane) => lane.oldest_age_ms));
    sink.lanes.forEach((lane, at) => rows[at].set(lane, most));
    const kinds = Object.entries(attempts.waits).filter(([, times]) => times > 0);
    waits.replaceChildren(kinds.length ? pairs(kinds.map(([kind, times]) => [words(kind), `${count(times)} times`])) : h("p.soft", {}, "It never had to."));
    lagLine.redraw();
  };
  return { name, node, update };
}

const chipOf = (text, kind) => (kind ? chip(text, kind) : text);

export function show(root, { signal }) {
  const list = h("div.stack"), nothing = h("div.empty.panel", { hidden: true }, h("strong", {}, "No sinks are configured"), "What is sold stays in the log. See docs/sinks.md.");
  let panels = [];
  root.append(head("Flow", "From the durable log to each partner: how far behind it is, what waits, and why."), list, nothing);
  const update = () => {
    const now = latest();
    if (!now) return;
    const before = history[history.length - 2];
    nothing.hidden = now.sinks.length > 0;
    if (now.sinks.map((sink) => sink.name).join() !== panels.map((one) => one.name).join()) {
      panels = now.sinks.map((sink) => sinkPanel(sink.name, signal));
      list.replaceChildren(...panels.map((one) => one.node));
    }
    now.sinks.forEach((sink, at) => panels[at].update(sink, before?.sinks.find((other) => other.name === sink.name)));
  };
  live.addEventListener("snapshot", update, { signal });
  update();
}
