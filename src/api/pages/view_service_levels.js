// Whether the promises are kept: objectives, what was good of all, how fast the error budget burns.

import { get } from "./api.js";
import { chip, h, head, panel, table, trouble } from "./dom.js";
import { count, join, percent } from "./format.js";

const AGAIN_MS = 5_000;
const STATES = { ok: "good", warning: "warn", breached: "bad" };

const burn = (value) => (typeof value === "number" ? `${value.toLocaleString("en-GB", { maximumFractionDigits: 2 })} ×` : "–");
const share = (value) => (typeof value === "number" ? `${value.toLocaleString("en-GB", { maximumFractionDigits: 4 })} %` : "–");

function budget(level) {
  const bar = h("i" + (level.state === "breached" ? ".bad" : level.state === "warning" ? ".warn" : ".sold"));
  bar.style.width = `${Math.max(0, Math.min(100, level.budget_left_percent ?? 0))}%`;
  const left = level.budget_left_percent;
  const text = typeof left !== "number" ? "–" : left < 0 ? `overspent by ${join(percent(-left))}` : `${join(percent(left))} left`;
  return h("div", {}, h("div.meter", {}, bar), h("span.soft", {}, text));
}

export async function show(root, { signal }) {
  const list = table("Service levels", [
    { name: "Service level", of: (one) => h("strong", {}, one.name) },
    { name: "State", of: (one) => chip(one.state, STATES[one.state] ?? "") },
    { name: "Objective", kind: "long", of: (one) => one.objective },
    { name: "Target", kind: "num", of: (one) => share(one.target_percent) },
    { name: "Kept", kind: "num", of: (one) => share(one.percent) },
    { name: "Good of all", kind: "num", of: (one) => `${count(one.good)} of ${count(one.total)}` },
    { name: "Burn, 1 h", kind: "num", title: "How many times faster than allowed the error budget was spent in the last hour", of: (one) => burn(one.burn_rate_1h) },
    { name: "Burn, 6 h", kind: "num", of: (one) => burn(one.burn_rate_6h) },
    { name: "Error budget", kind: "gauge", of: budget },
  ], [h("strong", {}, "No service levels are configured"), "The configuration says what is promised."]);
  const body = h("div", {}, panel("Objectives", "read again every 5 seconds", list.node));
  root.append(head("Service levels", "What is promised, whether it is kept, and how fast its error budget is spent."), body);
  const read = async () => {
    const { service_levels: levels } = await get("/v1/service-levels", { signal });
    list.fill(levels);
  };
  const again = setInterval(() => read().catch(() => {}), AGAIN_MS);
  signal.addEventListener("abort", () => clearInterval(again));
  try {
    await read();
  } catch (error) {
    clearInterval(again);
    if (!signal.aborted) body.replaceChildren(h("div.panel", {}, trouble(error)));
  }
}
