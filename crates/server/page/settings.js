// The settings of a conversation: empty fields are left to the model.

import { byId, el, fill, iconButton } from "./dom.js";
import { toggle } from "./composer.js";
import { toolList } from "./generate.js";
import { icon } from "./icons.js";
import { NO_SETTINGS } from "./tree.js";

/** Number fields: label, range, whole numbers only, and what it does. */
export const NUMBERS = {
  temperature: ["Temperature", 0, 100, false, "0 always takes the likeliest token"],
  top_p: ["Top-p", 0.000001, 1, false, "Only the likeliest tokens whose sum is p"],
  top_k: ["Top-k", 0, 4294967295, true, "Only the k likeliest tokens; 0 keeps all"],
  min_p: ["Min-p", 0, 1, false, "Only tokens with this share of the likeliest one's"],
  repetition_penalty: ["Repetition penalty", 0.01, 100, false, "Above 1, tokens that occurred are less likely"],
  seed: ["Seed", 0, Number.MAX_SAFE_INTEGER, true, "The same seed gives the same text"],
  max_tokens: ["Most tokens", 1, Number.MAX_SAFE_INTEGER, true, "The answer's tokens at most"],
};

const FREE = { seed: "random", max_tokens: "as many as fit" };

export class SettingsPanel {
  constructor(app) {
    this.app = app;
    this.element = byId("settings");
  }

  get isOpen() {
    return !this.element.hidden;
  }

  toggle() {
    if (this.isOpen) this.close();
    else this.open();
  }

  open() {
    this.element.hidden = false;
    byId("settings-button").setAttribute("aria-expanded", "true");
    this.draw();
    this.element.querySelector("textarea, input, select")?.focus();
  }

  close() {
    this.element.hidden = true;
    byId("settings-button").setAttribute("aria-expanded", "false");
    byId("settings-button").focus();
  }

  set(name, value) {
    this.app.setSetting(this.app.conversation, name, value);
  }

  draw() {
    if (!this.isOpen) return;
    const { conversation, details } = this.app;
    const { settings, kind } = conversation;
    const chats = kind === "chat" || (kind === "compare" && details?.prompt_mode !== "raw");
    fill(
      this.element,
      el("div", { class: "settings-head" }, el("h2", {}, "Settings"), iconButton(icon("close"), "Close settings", () => this.close())),
      el("div", { class: "settings-body" },
        el("p", { class: "remark" }, "For this conversation. New ones take over all but the system prompt and the seed."),
        chats ? this.text("system", "System prompt", "Instructions that come before the conversation", 4) : null,
        el("fieldset", {}, el("legend", {}, "Sampling"), el("div", { class: "number-grid" }, Object.keys(NUMBERS).map((name) => this.number(name)))),
        el("fieldset", {}, el("legend", {}, "Drafting"),
          kind === "compare" ? null : toggle("MTP on", "Draft with the model's own heads", () => settings.mtp, (on) => this.set("mtp", on)),
          this.depth()),
        chats ? el("fieldset", {}, el("legend", {}, "Reasoning"), this.thinking()) : null,
        chats ? this.tools() : null,
        el("button", { type: "button", class: "button", onclick: () => this.reset() }, "Back to the model's own"),
      ),
    );
  }

  text(name, label, placeholder, rows) {
    const area = el("textarea", { id: `set-${name}`, rows, placeholder });
    area.value = this.app.conversation.settings[name];
    area.addEventListener("input", () => this.set(name, area.value));
    return el("div", { class: "field" }, el("label", { for: `set-${name}`, class: "field-label" }, label), area);
  }

  number(name) {
    const [label, least, most, whole, hint] = NUMBERS[name];
    const { conversation, details } = this.app;
    const own = FREE[name] ?? details?.defaults?.[name];
    const id = `set-${name}`;
    const problem = el("span", { class: "field-problem", id: `${id}-problem`, role: "alert" });
    const field = el("input", { id, type: "text", inputmode: whole ? "numeric" : "decimal", autocomplete: "off", placeholder: own ?? "model's own", title: hint, "aria-describedby": `${id}-problem` });
    field.value = conversation.settings[name] ?? "";
    field.addEventListener("input", () => {
      const text = field.value.trim().replace(",", ".");
      const value = text === "" ? null : Number(text);
      const right = value === null || (Number.isFinite(value) && value >= least && value <= most && (!whole || Number.isSafeInteger(value)));
      field.setAttribute("aria-invalid", String(!right));
      const upper = most > 1e6 ? `${least} or more` : `${least > 0 && least < 0.001 ? "above 0, at most" : `${least} to`} ${most}`;
      problem.textContent = right ? "" : `${whole ? "A whole number" : "A number"}, ${upper}`;
      if (right) this.set(name, value);
    });
    return el("div", { class: "field" }, el("label", { for: id, class: "field-label" }, label), field, problem);
  }

  depth() {
    const { conversation, details } = this.app;
    const own = details?.defaults?.depth;
    const choices = [["", own === undefined ? "The model's own" : `The model's own: ${own}`]];
    for (let depth = 1; depth <= (details?.max_depth || 8); depth += 1) choices.push([String(depth), String(depth)]);
    return this.select("depth", "Depth", choices, conversation.settings.depth ?? "", (value) => (value === "" ? null : Number(value)));
  }

  thinking() {
    const { settings } = this.app.conversation;
    const choices = [["", "The model's own"], ["true", "On"], ["false", "Off"]];
    return this.select("thinking", "Thinking before the answer", choices, settings.thinking ?? "", (value) => (value === "" ? null : value === "true"));
  }

  select(name, label, choices, value, read) {
    const field = el("select", { id: `set-${name}` }, choices.map(([key, words]) => el("option", { value: key, selected: key === String(value) }, words)));
    field.addEventListener("change", () => this.set(name, read(field.value)));
    return el("div", { class: "field" }, el("label", { for: `set-${name}`, class: "field-label" }, label), field);
  }

  tools() {
    const frame = this.text("tools", "Tools (JSON)", '[{"type": "function", "function": {"name": "…", "parameters": {…}}}]', 4);
    const area = frame.querySelector("textarea");
    area.spellcheck = false;
    area.classList.add("code");
    const problem = el("span", { class: "field-problem", role: "alert" });
    const check = () => {
      problem.textContent = "";
      if (!area.value.trim()) return;
      try {
        toolList(area.value);
      } catch (error) {
        problem.textContent = error.message;
      }
    };
    area.addEventListener("input", check);
    check();
    frame.append(problem, el("span", { class: "remark" }, "The page shows calls and takes results by hand; it runs nothing."));
    return frame;
  }

  reset() {
    for (const [name, value] of Object.entries(NO_SETTINGS)) this.set(name, value);
    this.draw();
  }
}
