// Signing in: an API key, tried against the server before it is kept.

import { get, key } from "./api.js";
import { h, setText } from "./dom.js";
import { inWords } from "./dialog.js";

/** Visible ASCII: what a header may carry. */
const FORM = /^[\x21-\x7e]+$/;

/** The form; `done` is called when the server knows the key. */
export function signIn(done, why) {
  const wrong = h("p.wrong", { id: "key-wrong", role: "alert", hidden: !why }, why ?? "");
  const input = h("input", { id: "key", type: "password", autocomplete: "off", spellcheck: "false", "aria-describedby": "key-wrong key-hint" });
  const button = h("button.main", { type: "submit" }, "Sign in");
  const fail = (text) => {
    setText(wrong, text);
    wrong.hidden = false;
    input.setAttribute("aria-invalid", "true");
    input.focus();
  };
  const submit = async (event) => {
    event.preventDefault();
    const value = input.value.trim();
    if (!FORM.test(value)) return fail("A key is made of visible ASCII characters, without a blank.");
    button.disabled = true;
    key.set(value);
    try {
      await get("/v1/status");
      done();
    } catch (error) {
      // A key that may not read the status is a known key all the same.
      if (error.status === 403) return done();
      key.clear();
      fail(error.status === 401 ? "The server does not know this key." : inWords(error));
    } finally {
      button.disabled = false;
    }
  };
  const form = h("form.panel.sign-in", { onsubmit: submit }, h("div.body", {}, h("h1", {}, "Sign in"),
    h("p.soft", {}, "This server is used with API keys."),
    h("div.field", {}, h("label", { for: "key" }, "API key"), input,
      h("p.hint", { id: "key-hint" }, "It is kept in this tab alone, until you sign out or close it."), wrong),
    button));
  setTimeout(() => input.focus());
  return form;
}
