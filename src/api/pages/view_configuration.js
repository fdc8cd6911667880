// The versions of the configuration: what changed, when, by whom and why.

import { get } from "./api.js";
import { chip, h, head, panel, trouble } from "./dom.js";
import { count, moment } from "./format.js";

const text = (value) => (value === null || value === undefined ? "not set" : typeof value === "string" ? value : JSON.stringify(value));

function changes(version) {
  if (!version.changes?.length) return h("p.soft", {}, "The first version, or nothing that is told.");
  return h("div.diff", {}, version.changes.map((one) => [h("code", {}, one.key), h("div", {}, h("del", {}, text(one.before)), " → ", h("ins", {}, text(one.after)))]));
}

const item = (version) => h("li", { "data-version": version.version },
  h("div.what", {}, h("strong", {}, `Version ${version.version}`), version.state === "current" ? chip("current", "good") : null, moment(version.at),
    version.forced ? chip("forced", "warn") : null, h("span.gap", {}, `by ${version.by || "(unknown)"}`)),
  version.reason ? h("p.says", {}, version.reason) : null, changes(version));

export async function show(root, { signal }) {
  const body = h("div", {}, h("p.waiting", {}, "Reading …"));
  root.append(head("Configuration", "Every version that was in force: what changed, when, by whom and why."), body);
  try {
    const { versions } = await get("/v1/configuration/history", { signal });
    versions.sort((a, b) => b.version - a.version);
    body.replaceChildren(versions.length
      ? panel("History", `${count(versions.length)} versions, newest first`, h("ol.timeline", { "aria-label": "Versions" }, versions.map(item)))
      : h("div.empty.panel", {}, h("strong", {}, "No versions are recorded"), "The first change of the configuration makes one."));
  } catch (error) {
    if (!signal.aborted) body.replaceChildren(h("div.panel", {}, trouble(error)));
  }
}
