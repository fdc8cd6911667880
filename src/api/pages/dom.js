// Elements, made and changed without a framework. Text always goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** An element: `h("td.num", {title: "…"}, "1")`. */
export function h(selector, properties, ...children) {
  const [tag, ...classes] = selector.split(".");
  const node = document.createElement(tag || "div");
  if (classes.length) node.className = classes.join(" ");
  return fill(node, properties, children);
}

/** The same for SVG. */
export function s(tag, properties, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

/** Sets a text only where it changed, so that a live view disturbs neither selection nor screen reader. */
export function setText(node, text) {
  const next = String(text);
  if (node.textContent !== next) node.textContent = next;
}

export function setClass(node, name) {
  if (node.className !== name) node.className = name;
}

/** A chip with a state's colour; the word says the same. */
export function chip(text, kind = "", title) {
  return h("span.chip" + (kind ? "." + kind : ""), { title }, text);
}

export function setChip(node, text, kind) {
  setText(node, text);
  setClass(node, "chip" + (kind ? " " + kind : ""));
}

/** A panel with a heading. */
export function panel(title, aside, ...body) {
  return h("section.panel", { "aria-label": title },
    h("header", {}, h("h2", {}, title), aside ? h("div.aside", {}, aside) : null), ...body);
}

/** The head of a view: what it is, a sentence, its actions. */
export function head(title, sentence, ...actions) {
  return h("div.head", {}, h("div", {}, h("h1", {}, title), h("p", {}, sentence)),
    actions.length ? h("div.actions.row", {}, ...actions) : null);
}

/** A figure with its unit: `set(value, unit, note, kind)`. */
export function figure(name, title) {
  const value = h("span", {}, "–"), unit = h("small"), note = h("div.note");
  const node = h("div.figure", { title }, h("dt", {}, name), h("dd", {}, value, unit), note);
  return {
    node,
    set([number, of], text = "", kind = "") {
      setText(value, number); setText(unit, of); setText(note, text);
      setClass(node, "figure" + (kind ? " " + kind : ""));
    },
  };
}

/**
 * A table. Columns: `{name, kind?, of: row => node or text, title?}`; `kind` is a class of its cells. The
 * rows are filled anew, the table itself stays.
 */
export function table(label, columns, empty) {
  const body = h("tbody");
  const headings = columns.map((c) => h("th" + (c.kind === "num" ? ".num" : ""), { scope: "col", title: c.title }, c.name));
  const scroll = h("div.scroll", { tabindex: "0", role: "region", "aria-label": label },
    h("table", { "aria-label": label }, h("thead", {}, h("tr", {}, headings)), body));
  const nothing = h("div.empty", {}, empty);
  const node = h("div", {}, scroll, nothing);
  const cell = (column, row, first) =>
    h((first ? "th" : "td") + (column.kind ? "." + column.kind.replaceAll(" ", ".") : ""), first ? { scope: "row" } : {}, column.of(row));
  return {
    node, body,
    fill(rows) {
      nothing.hidden = rows.length > 0;
      scroll.hidden = rows.length === 0;
      // Who is at a button of a row stays there.
      const at = body.contains(document.activeElement) && document.activeElement.getAttribute("aria-label");
      body.replaceChildren(...rows.map((row) => h("tr", {}, columns.map((column, place) => cell(column, row, place === 0)))));
      if (at) [...body.querySelectorAll("[aria-label]")].find((node) => node.getAttribute("aria-label") === at)?.focus({ preventScroll: true });
    },
  };
}

const shown = (entries) => entries.filter((entry) => entry && entry[1] !== undefined && entry[1] !== null && entry[1] !== "");

/** Names and values side by side, a pair a row. */
export function pairs(entries, kind = "") {
  return h("dl.pairs" + (kind ? "." + kind : ""), {}, shown(entries).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

/** Names over values, as many beside each other as have room. */
export function facts(entries) {
  return h("dl.facts", {}, shown(entries).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** What is shown where something could not be had. */
export function trouble(error) {
  if (error.code === "unknown_route")
    return h("div.empty", {}, h("strong", {}, "This server does not offer it"), "A newer version of Holdfast does.");
  const kind = error.status === 403 ? "warn" : "bad";
  const title = error.status === 403 ? "Your key does not allow this" : error.title ?? "It could not be read";
  return h("div.note-box." + kind, { role: "alert" }, h("strong", {}, title), h("div", {}, error.message));
}
