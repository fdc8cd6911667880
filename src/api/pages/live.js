// Follows `/v1/live` and keeps the last few minutes. Read with fetch, not EventSource, so that the key
// can go in a header.

import { ask } from "./api.js";

/** Snapshots that are kept: five minutes. */
export const HISTORY_MAX = 300;
const PAUSE_MS_MAX = 8_000;
/** A stream on which nothing came for so long is given up. */
const SILENCE_MS_MAX = 6_000;

export const live = new EventTarget();
/** An event is a few kilobytes; what is longer is not ours. */
const EVENT_CHARS_MAX = 4_000_000;

/** `off`, `connecting`, `on`, `starting`, `full`, `lost`, and why. */
export const line = { state: "off", reason: "" };
export const history = [];
export const latest = () => history[history.length - 1];

let abort = null;
/** Whether to follow again when the page is looked at. */
let isWanted = false;
let hidden = 0;

function tell(state, reason = "") {
  if (line.state === state && line.reason === reason) return;
  Object.assign(line, { state, reason });
  live.dispatchEvent(new Event("line"));
}

function take(snapshot) {
  const before = latest();
  if (before && before.status.incarnation !== snapshot.status.incarnation) history.length = 0;
  history.push(snapshot);
  if (history.length > HISTORY_MAX) history.shift();
  tell("on");
  live.dispatchEvent(new Event("snapshot"));
}

/** Takes the whole events out of what was read; gives back the rest. */
function events(text) {
  const parts = text.split("\n\n");
  const rest = parts.pop();
  for (const event of parts) {
    const data = event.split("\n").filter((row) => row.startsWith("data: ")).map((row) => row.slice(6)).join("\n");
    if (data) take(JSON.parse(data));
  }
  return rest;
}

async function read(signal) {
  const answer = await ask("/v1/live", { signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    let timer;
    const silence = new Promise((_, give) => { timer = setTimeout(() => give(new Error("nothing came for a while")), SILENCE_MS_MAX); });
    try {
      const { done, value } = await Promise.race([reader.read(), silence]);
      if (done) return;
      rest = events(rest + value);
      if (rest.length > EVENT_CHARS_MAX) throw new Error("what came is no snapshot");
    } catch (error) {
      reader.cancel().catch(() => {});
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Follows until stopped; what is lost is asked for again, slower each time. */
export async function follow() {
  stop();
  const mine = (abort = new AbortController());
  let wait_ms = 500;
  tell("connecting");
  while (!mine.signal.aborted) {
    const begun = performance.now();
    try {
      await read(mine.signal);
      if (mine.signal.aborted) return;
      tell("lost", "the stream ended");
    } catch (error) {
      if (mine.signal.aborted) return;
      if (error.status === 401) return tell("off", "a key is needed");
      if (error.status === 403) return tell("off", "this key does not allow the live view");
      tell({ starting: "starting", overloaded: "full" }[error.code] ?? "lost", error.message);
    }
    wait_ms = performance.now() - begun > 10_000 ? 500 : Math.min(wait_ms * 2, PAUSE_MS_MAX);
    await new Promise((go) => setTimeout(go, wait_ms * (0.75 + Math.random() / 2)));
  }
}

export function stop() {
  abort?.abort();
  abort = null;
  isWanted = false;
  tell("off");
}

/*
 * A stream is one of the six connections that a browser has for a server: a page that is left or that
 * nobody has looked at for a while lets go of its own, and takes one again when it is looked at.
 */
const HIDDEN_MS_MAX = 300_000;

function pause() {
  if (!abort) return;
  stop();
  isWanted = true;
}

function resume() {
  clearTimeout(hidden);
  if (!isWanted || abort) return;
  history.length = 0;
  follow();
}

addEventListener("pagehide", pause);
addEventListener("pageshow", resume);
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") return resume();
  hidden = setTimeout(pause, HIDDEN_MS_MAX);
});

/** What a deed changed is seen at once rather than with the next snapshot: views may listen to this. */
export const changed = () => live.dispatchEvent(new Event("changed"));
