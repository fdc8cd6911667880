// Follows `/v1/live` and keeps the last few minutes. Read with fetch, not EventSource, so that the key
// can go in a header.

import { ask } from "./api.js";

/** Snapshots that are kept: five minutes. */
export const HISTORY_MAX = 300;
const PAUSE_MS_MAX = 8_000;
/** A stream on which nothing came for so long is given up. */
const SILENCE_MS_MAX = 6_000;

export const live = new EventTarget();
/** `off`, `connecting`, `on`, `lost`, and why. */
export const line = { state: "off", reason: "" };
export const history = [];
export const latest = () => history[history.length - 1];

let abort = null;

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
  let pause = 500;
  tell("connecting");
  while (!mine.signal.aborted) {
    const begun = performance.now();
    try {
      await read(mine.signal);
      tell("lost", "the stream ended");
    } catch (error) {
      if (mine.signal.aborted) return;
      if (error.status === 401) return tell("off", "a key is needed");
      if (error.status === 403) return tell("off", "this key does not allow the live view");
      tell("lost", error.message);
    }
    pause = performance.now() - begun > 10_000 ? 500 : Math.min(pause * 2, PAUSE_MS_MAX);
    await new Promise((go) => setTimeout(go, pause * (0.75 + Math.random() / 2)));
  }
}

export function stop() {
  abort?.abort();
  abort = null;
  tell("off");
}

/** What a deed changed is seen at once rather than with the next snapshot: views may listen to this. */
export const changed = () => live.dispatchEvent(new Event("changed"));
