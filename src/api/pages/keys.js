// The keyboard: `g` and a letter go to a view, `/` to the search, `?` shows all.

import { h } from "./dom.js";
import { show } from "./dialog.js";

const WAIT_MS = 1_500;
let asked = 0;

const links = () => [...document.querySelectorAll("#nav a[data-key]")];

export function help() {
  const rows = links().map((link) => [`g ${link.dataset.key}`, link.firstChild.textContent]);
  rows.push(["/", "Search an order"], ["t", "Switch between light and dark"], ["?", "This list"], ["Esc", "Close what is open"]);
  const keys = (text) => text.split(" ").map((one) => [h("kbd", {}, one), " "]);
  show("Keyboard", h("table", {}, h("tbody", {}, rows.map(([key, what]) => h("tr", {}, h("td", {}, keys(key)), h("td", {}, what))))));
}

const isTyping = (target) => target.closest?.("input, textarea, select, [contenteditable]");

export function listen({ search, theme }) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || document.getElementById("dialog").open) return;
    const isSecond = performance.now() - asked < WAIT_MS && asked > 0;
    asked = 0;
    const link = isSecond && links().find((one) => one.dataset.key === event.key);
    if (link) location.hash = link.hash;
    else if (event.key === "g") asked = performance.now();
    else if (event.key === "/") search();
    else if (event.key === "t") theme();
    else if (event.key === "?") help();
    else return;
    event.preventDefault();
  });
}
