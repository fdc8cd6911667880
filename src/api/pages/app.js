// The frame: which view is shown, how the server stands, who is signed in, light or dark.

import { get, key, unauthenticated } from "./api.js";
import { chip, h, setChip, setText, trouble } from "./dom.js";
import { bytes, join, percent } from "./format.js";
import { help, listen } from "./keys.js";
import { follow, history, latest, line, live, stop } from "./live.js";
import { say } from "./dialog.js";
import { signIn } from "./sign_in.js";

const VIEWS = ["sale", "flow", "orders", "dead-letters", "parked", "reconciliation", "service-levels", "latency", "configuration"];
const THEME = "holdfast-theme";
const main = document.getElementById("main");
const element = (id) => document.getElementById(id);

/** What the shown view listens to; ended with it. */
let leave = new AbortController();

function route() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/");
  return { name: VIEWS.includes(name) ? name : "sale", rest: rest.map(decodeURIComponent).join("/"), query: new URLSearchParams(query) };
}

async function show() {
  if (location.hash === "#main") return;
  const { name, rest, query } = route();
  leave.abort();
  const mine = (leave = new AbortController());
  for (const link of document.querySelectorAll("#nav a[data-key]")) {
    if (link.hash === `#/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  closeMenu();
  try {
    const view = await import(`/pages/view_${name.replaceAll("-", "_")}.js`);
    if (mine.signal.aborted) return;
    const root = h("div", { "data-view": name });
    main.replaceChildren(root);
    document.title = `${root.ownerDocument.querySelector("#nav a[aria-current]")?.firstChild.textContent ?? "Holdfast"} · Holdfast`;
    await view.show(root, { rest, query, signal: mine.signal });
  } catch (error) {
    if (!mine.signal.aborted && error.status !== 401) main.replaceChildren(trouble(error));
  }
}

/** A new view begins at its top, and the keyboard goes on there, unless the view put it somewhere. */
function arrive() {
  scrollTo(0, 0);
  if (!main.contains(document.activeElement) || document.activeElement === main) main.focus({ preventScroll: true });
}

const closeMenu = () => {
  element("nav").classList.remove("open");
  element("menu").setAttribute("aria-expanded", "false");
};

/* How the server stands, beside the name. */

const lamps = { line: chip("connecting"), ready: chip(""), log: chip(""), sinks: chip("") };
element("lamps").append(...Object.values(lamps).map((lamp) => h("li", {}, lamp)));

const LINES = { on: ["live", "good"], connecting: ["connecting", ""], lost: ["no connection", "bad"], starting: ["starting", "warn"], full: ["live view is full", "warn"], off: ["not followed", ""] };

function showLamps() {
  setChip(lamps.line, ...LINES[line.state]);
  lamps.line.title = line.reason;
  const now = latest();
  for (const name of ["ready", "log", "sinks"]) lamps[name].parentNode.hidden = !now;
  if (!now) return;
  const isStale = line.state !== "on";
  setChip(lamps.ready, now.ready ? "ready" : "not ready", isStale ? "" : now.ready ? "good" : "bad");
  const { log_bytes_used: used, log_bytes_budget: budget, log_past_soft_mark: past } = now.status;
  setChip(lamps.log, `log ${join(percent((100 * used) / budget))}`, isStale ? "" : past ? "bad" : "good");
  lamps.log.title = `${join(bytes(used))} of ${join(bytes(budget))}`;
  const ill = now.sinks.filter((sink) => sink.state !== "running" || sink.breaker !== "closed");
  lamps.sinks.parentNode.hidden = now.sinks.length === 0;
  setChip(lamps.sinks, ill.length ? `${ill.length} of ${now.sinks.length} sinks in trouble` : `${now.sinks.length} ${now.sinks.length === 1 ? "sink" : "sinks"}`, isStale ? "" : ill.length ? "bad" : "good");
  lamps.sinks.title = ill.map((sink) => sink.name).join(", ");
  badge("badge-letters", now.sinks.reduce((sum, sink) => sum + sink.dead_letters, 0), "dead letters");
  badge("badge-parked", now.status.parked_events_refused, "refused reports wait for a person");
}

function badge(id, number, what) {
  const node = element(id);
  node.hidden = !number;
  setText(node, number);
  node.title = `${number} ${what}`;
}

/** What changed for the worse or the better since the snapshot before is said aloud. */
function tellChanges() {
  const [before, now] = [history[history.length - 2], latest()];
  if (!before) return;
  if (before.ready !== now.ready) say(now.ready ? "The server is ready again." : "The server is not ready.", now.ready ? "good" : "bad", "ready");
  for (const sink of now.sinks) {
    const was = before.sinks.find((other) => other.name === sink.name);
    if (!was) continue;
    if (was.breaker !== "open" && sink.breaker === "open") say(`${sink.name}: the partner fails, its breaker is open.`, "bad", `${sink.name} breaker`);
    if (was.breaker !== "closed" && sink.breaker === "closed") say(`${sink.name}: the partner answers again.`, "good", `${sink.name} breaker`);
    if (was.state !== sink.state) say(`${sink.name} is ${sink.state}${sink.reason ? `: ${sink.reason}` : ""}.`, sink.state === "running" ? "good" : "warn", `${sink.name} state`);
    if (was.dead_letters < sink.dead_letters) say(`${sink.name}: ${sink.dead_letters} dead letters wait for a person.`, "warn", `${sink.name} letters`);
  }
}

live.addEventListener("line", () => {
  showLamps();
  if (line.state === "off" && line.reason) say(`The figures are not live: ${line.reason}.`, "warn", "line");
  // A view that could not be shown is tried again when the server is back.
  if (line.state === "on" && main.querySelector(":scope > [role=alert]")) show();
});
live.addEventListener("snapshot", () => { showLamps(); tellChanges(); });

/* Light and dark. */

function setTheme(name) {
  if (name) document.documentElement.dataset.theme = name;
  live.dispatchEvent(new Event("theme"));
}

function turnTheme() {
  const isDark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  const next = isDark ? "light" : "dark";
  localStorage.setItem(THEME, next);
  setTheme(next);
}

setTheme(localStorage.getItem(THEME));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme());

/* Who is signed in. */

let isAsking = false;

function askForKey(why) {
  if (isAsking) return;
  isAsking = true;
  stop();
  leave.abort();
  document.body.classList.add("signed-out");
  element("sign-out").hidden = true;
  main.replaceChildren(signIn(begin, why));
}

function begin() {
  isAsking = false;
  document.body.classList.remove("signed-out");
  element("sign-out").hidden = !key.get();
  follow();
  show();
}

element("sign-out").addEventListener("click", () => {
  key.clear();
  history.length = 0;
  showLamps();
  askForKey();
});
unauthenticated.addEventListener("asked", () => {
  const had = key.get();
  key.clear();
  askForKey(had ? "The server does not know this key any more." : undefined);
});

element("theme").addEventListener("click", turnTheme);
element("help").addEventListener("click", help);
element("menu").addEventListener("click", () => {
  const isOpen = element("nav").classList.toggle("open");
  element("menu").setAttribute("aria-expanded", String(isOpen));
});
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
window.addEventListener("hashchange", () => { if (!isAsking) show().then(arrive); });
listen({
  theme: turnTheme,
  search: () => {
    const box = document.querySelector("[data-search]");
    if (box) box.focus();
    else location.hash = "#/orders";
  },
});

showLamps();
// Whether a key is needed is found out before the first view asks for anything.
if (key.get()) begin();
else get("/v1/status").then(begin, (error) => { if (error.status !== 401) begin(); });
