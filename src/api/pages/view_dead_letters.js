// What partners refused for its content: looked at, mended, sent again, dropped.

import { get, part, send } from "./api.js";
import { chip, facts, h, head, panel, table, trouble } from "./dom.js";
import { confirm, forceField, reasonField, say, inWords } from "./dialog.js";
import { count, join, moment, ms } from "./format.js";
import { changed, latest, live } from "./live.js";

const PAGE = 100;

const path = (letter) => `/v1/dead-letters/${part(letter.id)}`;

const sendAgain = (letter) => send("POST", `${path(letter)}/retry`);

/** Sends a letter again; one that may have had its effect only if that is meant. */
async function retry(letter) {
  if (letter.uncertain)
    return confirm({
      title: `Send ${letter.id} again`, danger: true, button: "Send it again",
      text: "An attempt may have had its effect although no answer came. Find out at the partner first: sent again it may count twice.",
      act: () => sendAgain(letter), done: `${letter.id} goes out again.`,
    });
  try {
    await sendAgain(letter);
    say(`${letter.id} goes out again.`);
  } catch (error) {
    say(inWords(error), "bad");
  }
  changed();
}

/** Parses what was typed; where it is wrong is told by line, as an editor would. */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch (cause) {
    const at = Number(/position (\d+)/.exec(cause.message)?.[1]);
    const where = Number.isFinite(at) ? ` in line ${text.slice(0, at).split("\n").length}` : "";
    throw Object.assign(new Error(`This is not JSON${where}: ${cause.message}`), { field: "content" });
  }
}

async function mend(letter) {
  let whole;
  try {
    whole = await get(path(letter));
  } catch (error) {
    return say(inWords(error), "bad");
  }
  confirm({
    title: `Mend ${letter.id}`, wide: true, button: "Save the content",
    text: `The partner said: ${letter.reason}. Lines keep their ids, entries must balance. Saving does not send it: retry does.`,
    fields: [{ name: "content", label: "Content (JSON)", kind: "code", value: JSON.stringify(whole.content, null, 2), rows: "18" }, reasonField()],
    act: async ({ content, reason }) => {
      const body = { content: parsed(content) };
      if (reason.trim()) body.reason = reason.trim();
      return send("PUT", path(letter), body);
    },
    done: `${letter.id} is mended; retry sends it.`,
  });
}

function discard(letter) {
  confirm({
    title: `Discard ${letter.id}`, danger: true, button: "Discard for good",
    text: "The partner will never have it. This can't be undone.",
    fields: [reasonField(true), forceField],
    act: ({ reason, force }) => send("DELETE", `${path(letter)}?reason=${part(reason.trim())}${force ? "&force=true" : ""}`),
    done: `${letter.id} is discarded.`,
  });
}

/** A letter with its content, below the list. */
async function open(letter, into, signal) {
  into.replaceChildren(h("p.waiting", {}, "Reading …"));
  try {
    const whole = await get(path(letter), { signal });
    into.replaceChildren(panel(`Letter ${letter.id}`, `refused in ${letter.batch_id}`,
      h("div.body", {}, h("p.note-box.bad", {}, whole.reason), facts([
        ["Status", whole.status ? String(whole.status) : "none: it was not asked"],
        ["May have had its effect", whole.uncertain ? "yes: find out before it is sent again" : "no"],
        ["Set aside", moment(whole.at)], ["Attempts", count(whole.attempts)], ["Lane", whole.lane], ["Sealed at", `log position ${count(whole.seal_lsn)}`],
      ]), h("pre", { tabindex: "0" }, JSON.stringify(whole.content, null, 2)))));
    into.scrollIntoView({ block: "nearest" });
  } catch (error) {
    if (!signal.aborted) into.replaceChildren(trouble(error));
  }
}

export async function show(root, { query, signal }) {
  const detail = h("div"), more = h("button", { type: "button", hidden: true }, "Show more");
  const select = h("select", { id: "of-sink" });
  let letters = [], next = null, seen = "";
  const button = (name, kind, deed, letter, off) => h("button.small" + kind, { type: "button", "data-deed": name.toLowerCase(), "aria-label": `${name} ${letter.id}`, disabled: off, onclick: () => deed(letter) }, name);
  const list = table("Dead letters", [
    { name: "Letter", kind: "id", of: (letter) => h("button.link", { type: "button", onclick: () => open(letter, detail, signal) }, letter.id) },
    { name: "Sink", of: (letter) => letter.sink },
    { name: "State", of: (letter) => [chip(letter.state, letter.state === "dead" ? "bad" : "warn"), letter.mended ? [" ", chip("mended", "good")] : null, letter.uncertain ? [" ", chip("uncertain", "warn", "An attempt may have had its effect: find out before you send it again")] : null] },
    { name: "Refused because", kind: "long", of: (letter) => letter.reason },
    { name: "Age", kind: "num", of: (letter) => h("span", { title: letter.at }, join(ms(letter.age_ms))) },
    { name: "Attempts", kind: "num", of: (letter) => count(letter.attempts) },
    { name: "", kind: "acts", of: (letter) => ["Retry", "Mend", "Discard"].map((name, at) => button(name, at === 2 ? ".danger" : "", [retry, mend, discard][at], letter, letter.state === "sending")) },
  ], [h("strong", {}, "No dead letters"), "What a partner refuses for its content stands here until somebody has dealt with it."]);
  const total = h("span");
  root.append(head("Dead letters", "What partners refused for its content. Nothing here is lost; nothing is sent again by itself.",
    h("div", {}, h("label", { for: "of-sink" }, "Sink"), select)),
  h("div.stack", {}, panel("Letters", total, list.node, h("div.row", {}, more)), detail));

  const read = async (after) => {
    const sink = select.value;
    const page = await get(`/v1/dead-letters?limit=${PAGE}${sink ? `&sink=${part(sink)}` : ""}${after ? `&after=${part(after)}` : ""}`, { signal });
    letters = after ? letters.concat(page.dead_letters) : page.dead_letters;
    next = page.next;
    more.hidden = !next;
    total.textContent = `${count(letters.length)} of ${count(page.total)}`;
    list.fill(letters);
  };
  const reread = () => read().catch((error) => { if (!signal.aborted) say(inWords(error), "bad"); });
  const { sinks } = await get("/v1/sinks", { signal });
  select.append(h("option", { value: "" }, "All sinks"), ...sinks.map((sink) => h("option", { value: sink.name }, sink.name)));
  select.value = sinks.some((sink) => sink.name === query.get("sink")) ? query.get("sink") : "";
  select.addEventListener("change", reread);
  more.addEventListener("click", () => read(next).catch((error) => say(inWords(error), "bad")));
  live.addEventListener("changed", () => setTimeout(reread, 150), { signal });
  // Read again whenever a partner answered something, while there are letters or were any.
  live.addEventListener("snapshot", () => {
    const { sinks } = latest();
    const now = sinks.map((sink) => `${sink.dead_letters}:${sink.acknowledged_lsn}:${sink.attempts.done}:${sink.attempts.refused}`).join();
    if (now !== seen && (letters.length || sinks.some((sink) => sink.dead_letters))) reread();
    seen = now;
  }, { signal });
  await read();
}
