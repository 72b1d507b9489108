// The comparison: one prompt and one seed, with drafts and without, one run after the other so that neither slows the other down.

import { announce, el, fill, paced } from "./dom.js";
import { composer, toggle } from "./composer.js";
import { chatFields, emptyAnswer, fields, generate } from "./generate.js";
import { icon } from "./icons.js";
import { render } from "./markdown.js";
import { errorBox } from "./message.js";
import { figureLine, legend, speed, tinted } from "./meter.js";

/** Tokens of a run where the settings have no limit: base models never end by themselves. */
const TOKENS = 200;
/** Texts of fewer tokens say nothing about a speed. */
const FEWEST = 32;
/** Tokens before both runs: the first request after a pause pays for memory that was given back, and knows no costs of rounds. */
const WARM_UP = 16;

/** Place of the first character that differs, in whole characters; null where the texts are equal. */
export function difference(one, other) {
  const [a, b] = [[...one], [...other]];
  const place = a.findIndex((letter, at) => letter !== b[at]);
  if (place >= 0) return place;
  return a.length < b.length ? a.length : null;
}

const whole = (run) => (run.reasoning ? `${run.reasoning}\n\n${run.content}` : run.content);

export class CompareView {
  constructor(app) {
    this.app = app;
    this.result = el("div", { class: "compare", "aria-label": "Comparison" });
    this.scroller = el("div", { class: "scroller", tabindex: -1 }, this.result);
    this.drafts = toggle("Show drafts", "Colour accepted drafts by their depth", () => app.showsDrafts, (on) => app.setDrafts(on));
    this.composer = composer({
      label: "Prompt",
      placeholder: "One prompt, run with MTP on and off",
      send: async (text) => {
        this.send(text);
        return true;
      },
      stop: () => app.stop(this.conversation),
      controls: [this.drafts],
    });
    this.element = el("div", { class: "view" }, this.scroller, el("div", { class: "dock" }, this.composer.element));
    this.paint = paced(() => this.draw());
  }

  show(conversation) {
    this.conversation = conversation;
    this.drawn = null;
    this.draw();
    this.composer.focus();
  }

  isRaw() {
    return this.app.details?.prompt_mode === "raw";
  }

  draw() {
    const { app, conversation } = this;
    const busy = app.isBusy(conversation);
    this.composer.setBusy(busy);
    this.drafts.draw();
    if (!conversation.runs.length) {
      this.drawn = null;
      fill(this.result, el("div", { class: "welcome" },
        el("h2", {}, "The same text, faster"),
        el("p", {}, "One prompt runs twice with one seed: once with drafts from the model's own heads, once without. With coupled draws both runs decide every token alike, so the texts can be compared letter by letter, and the speeds with them."),
        el("p", { class: "facts" }, `${app.modelName} · settings of this conversation apply`)));
      return;
    }
    // Columns are built once a comparison, then filled: a text that grows keeps its place on the screen.
    if (this.drawn !== conversation.runs) {
      this.drawn = conversation.runs;
      this.verdict = el("div", { class: "compare-verdict", role: "status" });
      this.columns = conversation.runs.map((run) => {
        const parts = { run, text: el("div", { class: "compare-text", tabindex: 0 }), head: el("div", { class: "compare-head" }), foot: el("div", { class: "message-foot" }), state: "" };
        const label = run.mtp ? "MTP on" : "MTP off";
        parts.element = el("section", { class: "compare-column", "aria-label": label }, parts.head, parts.text, parts.foot);
        return parts;
      });
      fill(this.result, el("div", { class: "compare-prompt" }, conversation.text), this.verdict, el("div", { class: "compare-columns" }, this.columns.map((parts) => parts.element)));
    }
    this.columns.forEach((parts) => this.drawColumn(parts));
    fill(this.verdict, this.words(busy));
  }

  drawColumn(parts) {
    const { run } = parts;
    const running = this.app.isRunning(this.conversation, run.mtp ? "on" : "off");
    const rate = run.figures?.tokens_per_second ?? 0;
    fill(parts.head, el("span", { class: run.mtp ? "compare-name on" : "compare-name" }, run.mtp ? "MTP on" : "MTP off"), rate > 0 ? el("span", { class: "compare-speed" }, speed(rate), " tok/s") : null);
    const drafts = this.app.showsDrafts && run.tokens.length > 0;
    const state = `${drafts}:${whole(run).length}`;
    if (state !== parts.state) {
      parts.state = state;
      const text = whole(run);
      if (drafts) fill(parts.text, run.mtp ? legend(run.tokens) : null, el("div", { class: "tinted" }, tinted(run.tokens)));
      else if (this.isRaw()) fill(parts.text, el("pre", { class: "raw" }, text));
      else {
        const prose = el("div", { class: "prose" });
        render(run.content, prose);
        fill(parts.text, run.reasoning ? el("p", { class: "reasoning-text" }, run.reasoning.trim()) : null, prose);
      }
      if (running) parts.text.scrollTop = parts.text.scrollHeight;
    }
    const waits = !running && !run.finish && !run.error;
    fill(parts.foot,
      run.error ? errorBox(run.error, () => this.send(this.conversation.text)) : null,
      waits ? el("span", { class: "remark" }, this.app.isBusy(this.conversation) ? "Waits for the first run to end." : "Did not run.") : null,
      run.figures && !waits ? figureLine(run.figures, null, running) : null);
  }

  /** The outcome in words. */
  words(busy) {
    const { runs } = this.conversation;
    if (busy) return el("p", { class: "remark" }, `Seed ${runs[0].seed}. A few tokens to warm up, then one run after the other, so that neither slows the other down…`);
    if (runs.some((run) => run.error)) return el("p", { class: "remark" }, "A run failed, so there is nothing to compare. Retry runs both again.");
    if (runs.some((run) => run.finish === "stopped" || !run.finish)) return el("p", { class: "remark" }, "Stopped before both runs ended. Send the prompt again to compare.");
    const place = difference(whole(runs[0]), whole(runs[1]));
    const rates = runs.map((run) => run.figures?.tokens_per_second ?? 0);
    const isLong = runs.every((run) => (run.figures?.completion_tokens ?? 0) >= FEWEST);
    const ratio = isLong && rates[1] > 0 && rates[0] > 0 ? rates[0] / rates[1] : null;
    const verdict = place === null
      ? el("p", { class: "compare-equal" }, "The texts are equal.")
      : el("p", { class: "compare-differs" }, `The texts differ from character ${place + 1} on: `, this.excerpt(runs[0], place), " with MTP, ", this.excerpt(runs[1], place), " without. On a GPU the last digits of a sum depend on how many tokens are computed at once, which near-ties show.");
    return [
      verdict,
      ratio ? el("p", { class: "compare-ratio" }, el("strong", {}, `${ratio.toFixed(2)} ×`), ` the speed: ${speed(rates[0])} against ${speed(rates[1])} tok/s`) : el("p", {}, `The text ended after ${runs[0].figures?.completion_tokens ?? 0} tokens, too few to compare speeds by. Try another prompt.`),
      el("div", { class: "compare-again" },
        el("p", { class: "remark" }, `Seed ${runs[0].seed}, coupled draws, ${runs[0].figures?.completion_tokens} tokens each.`),
        el("button", { type: "button", class: "button", onclick: () => this.send(this.conversation.text) }, icon("retry"), "Run again")),
    ];
  }

  excerpt(run, place) {
    return el("code", {}, [...whole(run)].slice(place, place + 16).join("") || "(the end)");
  }

  async send(text) {
    const { app, conversation } = this;
    if (app.isBusy(conversation)) return;
    const { settings } = conversation;
    const seed = settings.seed ?? Math.floor(Math.random() * 2 ** 32);
    const run = (mtp) => ({ ...emptyAnswer(), mtp, seed });
    conversation.text = text;
    conversation.runs = [run(true), run(false)];
    conversation.updated = Date.now();
    const signal = app.begin(conversation, "warm-up");
    app.keep(conversation);
    announce("Comparison begun");
    try {
      const raw = this.isRaw();
      const limit = { max_tokens: settings.max_tokens ?? TOKENS };
      const common = raw ? { ...fields(settings), prompt: text } : { ...chatFields({ ...settings, tools: "" }), messages: this.messages(text) };
      const route = raw ? "/v1/completions" : "/v1/chat/completions";
      const warm = emptyAnswer();
      await generate(route, { ...common, seed, max_tokens: WARM_UP, mtp: { enabled: true, acceptance: "coupled" } }, warm, () => {}, signal);
      if (warm.error) throw new Error(warm.error);
      for (const answer of conversation.runs) {
        if (signal.aborted) break;
        app.mark(conversation, answer.mtp ? "on" : "off");
        const depth = settings.depth === null ? {} : { depth: settings.depth };
        const mtp = { enabled: answer.mtp, acceptance: "coupled", origins: true, ...(answer.mtp ? depth : {}) };
        const changed = () => {
          if (this.conversation === conversation && app.view === this) this.paint();
        };
        await generate(route, { ...common, ...limit, seed, mtp }, answer, changed, signal);
        if (answer.error || signal.aborted) break;
      }
    } catch (error) {
      conversation.runs[0].error = error.message;
    }
    app.end(conversation);
    app.save(conversation);
    if (this.conversation === conversation && app.view === this) {
      this.paint.now();
      this.columns.forEach((parts) => (parts.text.scrollTop = 0));
    }
    announce(this.verdict.textContent);
  }

  messages(text) {
    const { system } = this.conversation.settings;
    return [...(system.trim() ? [{ role: "system", content: system }] : []), { role: "user", content: text }];
  }

  redraw() {
    this.draw();
  }
}
