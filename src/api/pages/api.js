// Speaks to the server. The API key lives in this tab's session storage and goes out in one header.

const KEY = "holdfast-api-key";

export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  clear: () => sessionStorage.removeItem(KEY),
};

/** A problem (RFC 9457), or that no answer came. */
export class Trouble extends Error {
  constructor(status, problem = {}) {
    super(problem.detail ?? problem.title ?? `The server answered ${status}.`);
    Object.assign(this, { status, title: problem.title, code: problem.code, field: problem.field });
    this.retryAfter = 0;
  }
}

/** Told when the server wants a key that it knows. */
export const unauthenticated = new EventTarget();

export function headers(more = {}) {
  const known = key.get();
  return known ? { ...more, authorization: `Bearer ${known}` } : more;
}

async function problemOf(answer) {
  let problem = {};
  try {
    problem = await answer.json();
  } catch { /* Something before the server answered; the status has to do. */ }
  const trouble = new Trouble(answer.status, problem);
  trouble.retryAfter = Number(answer.headers.get("retry-after")) || 0;
  return trouble;
}

/** The answer to a request, or a `Trouble` that is thrown. */
export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: headers(options.headers), cache: "no-store" });
  } catch (cause) {
    if (cause.name === "AbortError") throw cause;
    throw new Trouble(0, { title: "No answer", detail: "The server can't be reached." });
  }
  if (answer.ok) return answer;
  const trouble = await problemOf(answer);
  if (trouble.status === 401) unauthenticated.dispatchEvent(new CustomEvent("asked", { detail: trouble }));
  throw trouble;
}

export const get = async (path, options) => (await ask(path, options)).json();

/** Sends JSON; every deed has a key of its own, so that a repeat by the browser does nothing twice. */
export async function send(method, path, body) {
  const options = { method, headers: { "idempotency-key": crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}` } };
  if (body !== undefined) {
    options.headers["content-type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  return (await ask(path, options)).json();
}

export const part = encodeURIComponent;
