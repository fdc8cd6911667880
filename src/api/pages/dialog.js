// Asks before something is done: why, and whether it is meant; says what came of it.

import { changed } from "./live.js";
import { h, setText } from "./dom.js";

const SHOWN_MS = 6_000;
const ALERTS_MAX = 4;

/**
 * Says something for a while; what is bad stays until it is put away, or until something newer is said of
 * the same subject.
 */
export function say(text, kind = "good", subject = text) {
  const alerts = document.getElementById("alerts");
  for (const old of [...alerts.children]) if (old.subject === subject) old.remove();
  const node = h("div.alert." + kind, {}, h("span", {}, text),
    h("button.quiet.small", { type: "button", "aria-label": "Put away", onclick: () => node.remove() }, "✕"));
  node.subject = subject;
  alerts.append(node);
  while (alerts.children.length > ALERTS_MAX) alerts.firstChild.remove();
  if (kind !== "bad") setTimeout(() => node.remove(), SHOWN_MS);
}

/** An error in the words of the server; a 403 says what it means. */
export const inWords = (error) =>
  error.status === 403 ? `Your key does not allow this: ${error.message}` : error.message;

/** One field: a label, an input, a hint, and where it is wrong. */
function field({ name, label, kind = "input", value = "", hint, required, options, rows }) {
  const id = `field-${name}`;
  const wrong = h("p.wrong", { id: `${id}-wrong`, hidden: true });
  const attributes = { id, name, required, "aria-describedby": `${id}-wrong`, value };
  let input;
  if (kind === "select") {
    input = h("select", attributes, options.map(([of, text]) => h("option", { value: of }, text)));
  } else if (kind === "check") {
    input = h("input", { id, name, type: "checkbox" });
    return { name, input, wrong, node: h("div.field", {}, h("label", { for: id }, input, label), hint ? h("p.hint", {}, hint) : null, wrong) };
  } else if (kind === "code") {
    input = h("textarea.code", { ...attributes, spellcheck: "false", rows });
  } else {
    input = h(kind, { ...attributes, autocomplete: "off", maxlength: kind === "textarea" ? "250" : null });
  }
  return { name, input, wrong, node: h("div.field", {}, h("label", { for: id }, label), input, hint ? h("p.hint", {}, hint) : null, wrong) };
}

/** The field for the reason that stands in the log. */
export const reasonField = (required = false) => ({
  name: "reason", label: required ? "Reason" : "Reason (optional)", kind: "textarea", required,
  hint: "It is written to the log, with your key's name.",
});
export const forceField = { name: "force", label: "Do it in a freeze window all the same", kind: "check", hint: "Then a reason must be given." };

const textOf = (input) => (input.type === "checkbox" ? input.checked : input.value);

/**
 * Shows a dialog and does `act(values)` when it is confirmed; the dialog stays open with the error, at its
 * field where the server names one, until it is done or put away.
 */
export function confirm({ title, text, fields = [], button, danger = false, wide = false, act, done }) {
  const dialog = document.getElementById("dialog");
  const made = fields.map(field);
  const wrong = h("p.wrong", { role: "alert", hidden: true });
  const go = h("button.main" + (danger ? ".danger" : ""), { type: "submit" }, button);
  const cancel = h("button", { type: "button", onclick: () => dialog.close() }, "Cancel");

  const show = (error) => {
    const at = made.find((one) => error.field && (one.name === error.field || error.field.startsWith(`${one.name}`)));
    const where = at ? at.wrong : wrong;
    where.hidden = false;
    setText(where, inWords(error));
    at?.input.setAttribute("aria-invalid", "true");
    (at?.input ?? go).focus();
  };
  const clear = () => {
    for (const one of made) { one.wrong.hidden = true; one.input.removeAttribute("aria-invalid"); }
    wrong.hidden = true;
  };
  const submit = async (event) => {
    event.preventDefault();
    clear();
    const values = Object.fromEntries(made.map((one) => [one.name, textOf(one.input)]));
    const missing = made.find((one, at) => fields[at].required && !values[one.name].trim());
    if (missing) return show({ field: missing.name, message: "This must be given." });
    go.disabled = true;
    try {
      const result = await act(values);
      dialog.close();
      if (done) say(typeof done === "function" ? done(result) : done);
      changed();
    } catch (error) {
      show(error);
    } finally {
      go.disabled = false;
    }
  };

  const form = h("form", { onsubmit: submit, novalidate: true }, h("h2", { id: "dialog-title" }, title),
    text ? h("p", {}, text) : null, made.map((one) => one.node), wrong, h("div.row.end", {}, cancel, go));
  dialog.className = wide ? "wide" : "";
  dialog.setAttribute("aria-labelledby", "dialog-title");
  dialog.replaceChildren(form);
  dialog.showModal();
  const first = made.find((one) => one.input.type !== "checkbox")?.input;
  (first ?? (danger ? cancel : go)).focus();
  if (first?.localName === "textarea") { first.setSelectionRange(0, 0); first.scrollTop = 0; }
}

/** Something to read in a dialog. */
export function show(title, ...content) {
  const dialog = document.getElementById("dialog");
  dialog.className = "wide";
  dialog.setAttribute("aria-labelledby", "dialog-title");
  dialog.replaceChildren(h("form", { method: "dialog" }, h("h2", { id: "dialog-title" }, title), content,
    h("div.row.end", {}, h("button.main", { type: "submit" }, "Close"))));
  dialog.showModal();
}
