// Dialogs: the key, a confirmation, and the frame of every other one.

import { el, iconButton } from "./dom.js";
import { icon } from "./icons.js";

/** Shows a dialog; `build` gets a function that closes it with a value, which is what is waited for. */
export function dialog(title, build, attributes = {}) {
  return new Promise((done) => {
    const close = (value) => {
      box.close();
      done(value);
    };
    const heading = el("h2", { id: "dialog-title" }, title);
    const box = el("dialog", { class: "dialog", "aria-labelledby": "dialog-title", ...attributes },
      el("div", { class: "dialog-head" }, heading, iconButton(icon("close"), "Close", () => close(null))));
    box.append(build(close));
    const before = document.activeElement;
    box.addEventListener("close", () => {
      box.remove();
      // Chromium gives the focus back while it still holds the field for inert, so that it would take no keys.
      before?.blur();
      before?.focus();
    });
    box.addEventListener("cancel", (event) => {
      event.preventDefault();
      close(null);
    });
    box.addEventListener("click", (event) => {
      if (event.target === box) close(null);
    });
    document.body.append(box);
    box.showModal();
  });
}

/** Asks a question; true for yes. */
export async function confirm(title, text, yes) {
  const answer = await dialog(title, (close) => el("div", {},
    el("p", {}, text),
    el("div", { class: "dialog-buttons" },
      el("button", { type: "button", class: "button", onclick: () => close(false) }, "Cancel"),
      el("button", { type: "button", class: "button danger", onclick: () => close(true), autofocus: true }, yes))));
  return answer === true;
}

/** Shows a text and waits until it was read. */
export function tell(title, text) {
  return dialog(title, (close) => el("div", {},
    el("p", {}, text),
    el("div", { class: "dialog-buttons" }, el("button", { type: "button", class: "button primary", onclick: () => close(true), autofocus: true }, "OK"))));
}

/** Asks for the server's key; null where nobody enters one. */
export function askForKey(wrong) {
  return dialog("Key of the server", (close) => {
    const field = el("input", { type: "password", id: "key-field", autocomplete: "off", spellcheck: "false", autofocus: true });
    const done = () => {
      if (field.value.trim()) close(field.value.trim());
    };
    const submit = (event) => {
      event.preventDefault();
      done();
    };
    return el("form", { onsubmit: submit },
      el("p", {}, wrong ? "The key was wrong. Enter the one that the server was started with." : "This server was started with a key. It is kept in this tab only, and goes when the tab is closed."),
      el("label", { for: "key-field", class: "field-label" }, "Key"),
      field,
      el("div", { class: "dialog-buttons" },
        el("button", { type: "button", class: "button", onclick: () => close(null) }, "Cancel"),
        el("button", { type: "submit", class: "button primary" }, "Use this key")));
  });
}

/** A list of names and values. */
export function facts(rows) {
  return el("dl", { class: "facts-list" }, rows.filter((row) => row[1] !== null && row[1] !== undefined).map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]).flat());
}
