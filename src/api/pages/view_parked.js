// What waits for something else: finance records before their cause, reports before their order.

import { get, part, send } from "./api.js";
import { chip, h, head, pairs, panel, table, trouble } from "./dom.js";
import { confirm, reasonField, say, inWords, show as showDialog } from "./dialog.js";
import { count, join, moment, ms, words } from "./format.js";
import { changed, latest, live } from "./live.js";

const order = (id) => h("a", { href: `#/orders/${part(id)}` }, id);

function release(sink, record) {
  confirm({
    title: `Release what is parked of ${record.order_id}`, button: "Release", danger: true,
    text: `It is booked at ${sink} as it is, with the next batch, although the ${words(record.waits_for)} is not there yet.`,
    act: () => send("POST", `/v1/sinks/${part(sink)}/parked/${part(record.order_id)}/release`),
    done: (said) => `${count(said.records)} ${said.records === 1 ? "record goes" : "records go"} into the next batch.`,
  });
}

async function retry(event) {
  try {
    await send("POST", `/v1/parked-events/${part(event.id)}/retry`);
    say(`The ${event.kind} of ${event.order_id} happened.`);
  } catch (error) {
    say(inWords(error), "bad");
  }
  changed();
}

function discard(event) {
  confirm({
    title: `Discard the ${event.kind} ${event.event_id} of ${event.order_id}`, danger: true, button: "Discard for good",
    text: "The report will never happen to its order. This can't be undone.", fields: [reasonField()],
    act: ({ reason }) => send("DELETE", `/v1/parked-events/${part(event.id)}${reason.trim() ? `?reason=${part(reason.trim())}` : ""}`),
    done: "The report is discarded.",
  });
}

async function look(event) {
  try {
    const whole = await get(`/v1/parked-events/${part(event.id)}`);
    showDialog(`${words(event.kind)} ${event.event_id}`, pairs([["Order", whole.order_id], ["Partner", whole.partner], ["Parked", moment(whole.parked_at)], ["Refused because", whole.refusal?.detail]], "left"),
      h("pre", { tabindex: "0" }, JSON.stringify(whole.data, null, 2)));
  } catch (error) {
    say(inWords(error), "bad");
  }
}

function records(sink) {
  return table(`Parked at ${sink}`, [
    { name: "Order", kind: "id", of: (one) => order(one.order_id) },
    { name: "Kind", of: (one) => one.kind },
    { name: "Its id", kind: "id", of: (one) => one.id },
    { name: "Waits for", of: (one) => words(one.waits_for) },
    { name: "Age", kind: "num", of: (one) => join(ms(one.age_ms)) },
    { name: "", kind: "acts", of: (one) => h("button.small", { type: "button", "data-deed": "release", "aria-label": `Release ${one.order_id}`, onclick: () => release(sink, one) }, "Release") },
  ], [h("strong", {}, "Nothing is parked"), "Settlements and refunds that come before what they belong to wait here."]);
}

export async function show(root, { signal }) {
  const reports = table("Reports before their order", [
    { name: "Order", kind: "id", of: (one) => one.order_id },
    { name: "Report", of: (one) => h("button.link", { type: "button", onclick: () => look(one) }, `${words(one.kind)} ${one.event_id}`) },
    { name: "Partner", of: (one) => one.partner || "–" },
    { name: "State", of: (one) => chip(one.state, one.state === "refused" ? "bad" : "warn") },
    { name: "Refused because", kind: "long", of: (one) => one.refusal?.detail ?? "–" },
    { name: "Age", kind: "num", of: (one) => join(ms(one.age_ms ?? 0)) },
    { name: "", kind: "acts", of: (one) => [h("button.small", { type: "button", "data-deed": "retry", "aria-label": `Retry ${one.event_id}`, onclick: () => retry(one) }, "Retry"), h("button.small.danger", { type: "button", "data-deed": "discard", "aria-label": `Discard ${one.event_id}`, onclick: () => discard(one) }, "Discard")] },
  ], [h("strong", {}, "No reports wait"), "What a partner reports of an order that is not there yet waits here."]);
  const panels = h("div.stack");
  root.append(head("Parked", "What came before what must come first, and waits for it."), panels);

  let tables = null, seen = "";
  const read = async () => {
    const { sinks } = await get("/v1/sinks", { signal });
    const finance = sinks.filter((sink) => sink.domain === "finance").map((sink) => sink.name);
    const [events, ...parked] = await Promise.all([
      get("/v1/parked-events?limit=100", { signal }), ...finance.map((sink) => get(`/v1/sinks/${part(sink)}/parked`, { signal })),
    ]);
    if (!tables) {
      tables = finance.map(records);
      panels.replaceChildren(...tables.map((one, at) => panel(`Finance records parked at ${finance[at]}`, "oldest first", one.node)), panel("Reports before their order", "oldest first", reports.node));
    }
    tables.forEach((one, at) => one.fill(parked[at].parked));
    reports.fill(events.parked_events);
  };
  const reread = () => read().catch((error) => { if (!signal.aborted) panels.replaceChildren(trouble(error)); });
  live.addEventListener("changed", () => setTimeout(reread, 150), { signal });
  live.addEventListener("snapshot", () => {
    const { status, sinks } = latest();
    const { events_parked: came, events_unparked: went } = status.counters;
    const now = [came, went, status.parked_events, status.parked_events_refused, ...sinks.map((sink) => `${sink.parked}:${sink.parked && sink.acknowledged_lsn}`)].join();
    if (now !== seen) reread();
    seen = now;
  }, { signal });
  await read();
}
