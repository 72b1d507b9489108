// The completion: one text that the model goes on with, for models without a chat template and for everybody who wants raw text.

import { announce, copy, el, fill, iconButton, paced } from "./dom.js";
import { toggle } from "./composer.js";
import { emptyAnswer, fields, generate } from "./generate.js";
import { icon } from "./icons.js";
import { errorBox } from "./message.js";
import { figureLine, legend, tinted } from "./meter.js";

/** Tokens of one completion where the settings have no limit: base models seldom end by themselves. */
const TOKENS = 200;

export class CompletionView {
  constructor(app) {
    this.app = app;
    this.area = el("textarea", { class: "paper-text", "aria-label": "Text", spellcheck: "false", placeholder: "Write the beginning of a text or of a program; the model goes on with it." });
    this.tints = el("div", { class: "paper-tints tinted", hidden: true, tabindex: 0, "aria-label": "Text with its drafts" });
    this.legend = el("div");
    this.foot = el("div", { class: "message-foot" });
    this.area.addEventListener("input", () => this.typed());
    this.area.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.complete();
    });
    this.mtp = toggle("MTP", "Draft with the model's own heads: the same text law, more tokens a second", () => this.conversation?.settings.mtp ?? true, (on) => app.setSetting(this.conversation, "mtp", on));
    this.drafts = toggle("Show drafts", "Colour accepted drafts by their depth", () => app.showsDrafts, (on) => app.setDrafts(on));
    this.button = el("button", { type: "button", class: "button primary", onclick: () => (app.isBusy(this.conversation) ? app.stop(this.conversation) : this.complete()) });
    this.retry = el("button", { type: "button", class: "button", title: "Another continuation from the same beginning", onclick: () => this.again() }, icon("retry"), "Retry");
    this.undo = el("button", { type: "button", class: "button", title: "Take the last continuation away", onclick: () => this.takeBack() }, icon("undo"), "Undo");
    const copying = iconButton(icon("copy"), "Copy text", (event) => copy(this.area.value, event.currentTarget, icon("check")));
    this.element = el("div", { class: "view paper" },
      el("div", { class: "paper-frame" }, this.legend, this.area, this.tints),
      el("div", { class: "dock" }, el("div", { class: "composer-frame" }, this.foot, el("div", { class: "paper-bar" }, el("div", { class: "composer-controls" }, this.mtp, this.drafts), copying, this.undo, this.retry, this.button))));
    this.paint = paced(() => this.draw());
  }

  show(conversation) {
    this.conversation = conversation;
    this.area.value = conversation.text;
    this.draw();
    if (matchMedia("(min-width: 48rem)").matches) this.area.focus();
  }

  /** The last continuation, as long as the text ends with it. */
  last() {
    const run = this.conversation.runs[0];
    return run && this.conversation.text.endsWith(run.content) ? run : null;
  }

  typed() {
    this.conversation.text = this.area.value;
    this.conversation.updated = Date.now();
    if (!this.last()) this.conversation.runs = [];
    this.app.keep(this.conversation);
    this.buttons();
  }

  draw() {
    const { app, conversation, area } = this;
    const run = this.last();
    const busy = app.isBusy(conversation);
    area.readOnly = busy;
    if (area.value !== conversation.text) {
      const atEnd = area.scrollHeight - area.scrollTop - area.clientHeight < 80;
      area.value = conversation.text;
      if (busy && atEnd) area.scrollTop = area.scrollHeight;
    }
    const drafts = app.showsDrafts && run !== null && run.tokens.length > 0;
    area.hidden = drafts;
    this.tints.hidden = !drafts;
    fill(this.legend, drafts ? legend(run.tokens) : null);
    if (drafts) {
      const begin = conversation.text.slice(0, conversation.text.length - run.content.length);
      fill(this.tints, el("span", { class: "paper-begin" }, begin), tinted(run.tokens));
      if (busy) this.tints.scrollTop = this.tints.scrollHeight;
    }
    const remark = { length: null, stopped: "Stopped." }[run?.finish ?? "length"];
    fill(this.foot,
      run?.error ? errorBox(run.error, () => this.again()) : null,
      remark ? el("p", { class: "remark" }, remark) : null,
      run?.figures ? figureLine(run.figures, app.details?.context, busy) : null);
    this.mtp.draw();
    this.drafts.draw();
    this.buttons();
  }

  buttons() {
    const busy = this.app.isBusy(this.conversation);
    fill(this.button, busy ? [icon("stop"), "Stop"] : "Complete");
    this.button.title = busy ? "Stop (Esc)" : "Complete (Ctrl or Cmd and Enter)";
    this.button.disabled = !busy && !this.conversation.text;
    this.retry.disabled = this.undo.disabled = busy || !this.last();
  }

  takeBack() {
    const run = this.last();
    if (!run) return;
    const { conversation } = this;
    conversation.text = conversation.text.slice(0, conversation.text.length - run.content.length);
    conversation.runs = [];
    this.app.keep(conversation);
    this.draw();
    this.area.focus();
  }

  again() {
    this.takeBack();
    this.complete();
  }

  async complete() {
    const { app, conversation } = this;
    if (app.isBusy(conversation) || !conversation.text) return;
    const { settings } = conversation;
    const prompt = conversation.text;
    const run = { ...emptyAnswer(), mtp: settings.mtp };
    conversation.runs = [run];
    conversation.updated = Date.now();
    const signal = app.begin(conversation, "completion");
    app.keep(conversation);
    this.draw();
    this.area.scrollTop = this.area.scrollHeight;
    announce("Completion begun");
    const changed = () => {
      conversation.text = prompt + run.content;
      if (this.conversation === conversation && app.view === this) this.paint();
    };
    await generate("/v1/completions", { ...fields(settings), max_tokens: settings.max_tokens ?? TOKENS, prompt }, run, changed, signal);
    app.end(conversation);
    app.save(conversation);
    if (this.conversation === conversation && app.view === this) this.paint.now();
    announce(run.error ? `Error: ${run.error}` : `Completion ended, ${run.figures?.completion_tokens ?? 0} tokens`);
  }

  redraw() {
    this.draw();
  }
}
