// The field at the bottom of a view: a text that grows, controls, and one button that sends or stops.

import { el, fill } from "./dom.js";
import { icon } from "./icons.js";

/** A switch: `get` and `set` are its state. */
export function toggle(label, title, get, set) {
  const button = el("button", { type: "button", class: "toggle", role: "switch", title, onclick: () => {
    set(!get());
    draw();
  } }, el("span", { class: "toggle-knob", "aria-hidden": "true" }), el("span", {}, label));
  const draw = () => button.setAttribute("aria-checked", String(get()));
  draw();
  button.draw = draw;
  return button;
}

/** Lets a textarea grow with its text. */
export function growing(area) {
  const fit = () => {
    area.style.height = "auto";
    area.style.height = `${area.scrollHeight}px`;
  };
  area.addEventListener("input", fit);
  area.fit = fit;
  return area;
}

/** Sends with Enter; Shift and Enter, and an input method's Enter, write. */
export function sendsWithEnter(area, send) {
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    }
  });
}

/** A composer. `send` gets the text and gives true where it was taken. */
export function composer({ label, placeholder, send, stop, controls }) {
  const area = growing(el("textarea", { class: "composer-text", rows: 1, "aria-label": label, placeholder, autocomplete: "off" }));
  const button = el("button", { type: "button", class: "send", onclick: () => (busy ? stop() : submit()) });
  let busy = false;
  const submit = async () => {
    const text = area.value;
    if (busy || !text.trim()) return;
    if (await send(text)) {
      area.value = "";
      area.fit();
    }
  };
  const draw = () => {
    const word = busy ? "Stop (Esc)" : "Send (Enter)";
    button.setAttribute("aria-label", busy ? "Stop" : "Send");
    button.title = word;
    button.classList.toggle("is-stop", busy);
    button.disabled = !busy && !area.value.trim();
    fill(button, icon(busy ? "stop" : "send"));
  };
  sendsWithEnter(area, submit);
  area.addEventListener("input", draw);
  draw();
  const bar = el("div", { class: "composer-bar" }, el("div", { class: "composer-controls" }, controls), button);
  const element = el("div", { class: "composer-frame" }, el("div", { class: "composer" }, area, bar));
  return {
    element,
    area,
    submit,
    focus: () => {
      // On a phone the keyboard would cover the conversation.
      if (matchMedia("(min-width: 48rem)").matches) area.focus();
    },
    setBusy: (is) => {
      busy = is;
      draw();
    },
    setText: (text) => {
      area.value = text;
      area.fit();
      draw();
    },
    redraw: draw,
  };
}

/** Keeps `scroller` at its end while it grows, until the reader scrolls away. */
export function follow(scroller, jump) {
  let follows = true;
  const atEnd = () => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 80;
  scroller.addEventListener("scroll", () => {
    follows = atEnd();
    jump.hidden = follows;
  });
  const settle = (force = false) => {
    if (force) follows = true;
    if (follows) scroller.scrollTop = scroller.scrollHeight;
    jump.hidden = follows || atEnd();
  };
  jump.addEventListener("click", () => settle(true));
  return settle;
}

/** The button that goes to the end of a conversation. */
export function jumpButton() {
  return el("button", { type: "button", class: "jump", hidden: true, "aria-label": "Go to the end", title: "Go to the end" }, icon("down"));
}
