// Elements: made here, with text as text. Nothing in this file takes HTML.

/** An element with attributes, listeners (`onclick: f`) and children; children that are null are left out. */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Puts children in place of an element's own. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** The element of the page with this id. */
export function byId(id) {
  return document.getElementById(id);
}

/** A button of an icon alone; `label` is its accessible name and its tooltip. */
export function iconButton(symbol, label, onclick, attributes = {}) {
  return el("button", { type: "button", class: "icon-button", "aria-label": label, title: label, onclick, ...attributes }, symbol);
}

let announcer = 0;
/** Says something to screen readers. */
export function announce(text) {
  const region = byId("announcer");
  region.textContent = "";
  clearTimeout(announcer);
  // A region that changes at once is not read again where the text is the same.
  announcer = setTimeout(() => (region.textContent = text), 50);
}

/** Shows a short remark for a few seconds. */
export function toast(text) {
  const note = el("div", { class: "toast" }, text);
  byId("toasts").append(note);
  setTimeout(() => note.remove(), 4000);
}

/** Copies a text; the button shows that it was done. */
export async function copy(text, button, done) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Browsers give the clipboard to https and to this machine's own pages only.
    const area = el("textarea", { class: "off-screen" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  announce("Copied");
  if (!button || button.dataset.copied) return;
  const before = [...button.childNodes];
  button.dataset.copied = "yes";
  fill(button, done);
  setTimeout(() => {
    delete button.dataset.copied;
    fill(button, before);
  }, 1500);
}

/** A function that runs `work` at most once a frame, and leaves time for everything else when it is slow. */
export function paced(work) {
  let waiting = 0;
  let cost = 0;
  const run = () => {
    waiting = 0;
    const begun = performance.now();
    work();
    cost = performance.now() - begun;
  };
  const paint = () => {
    if (!waiting) waiting = setTimeout(() => requestAnimationFrame(run), Math.max(24, 3 * cost));
  };
  paint.now = () => {
    clearTimeout(waiting);
    run();
  };
  return paint;
}

/** A number with thin spaces between thousands. */
export function count(number) {
  return Math.round(number).toString().replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** Bytes for people. */
export function bytes(number) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (number >= 1000 && unit < units.length - 1) {
    number /= 1000;
    unit += 1;
  }
  return `${number < 10 && unit > 0 ? number.toFixed(1) : Math.round(number)} ${units[unit]}`;
}

/** A random id. */
export function randomId() {
  return [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
