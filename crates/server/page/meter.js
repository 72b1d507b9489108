// Figures of one answer: live ones from its tokens as they arrive, then those that the server measured.

import { count, el } from "./dom.js";

/** Deepest place of a draft that is shown. */
const DEPTHS = 8;

/** Counts tokens by their origin while they arrive. */
export class Meter {
  constructor() {
    this.begun = performance.now();
    this.first = null;
    this.tokens = 0;
    this.prompt = null;
    this.rounds = 0;
    this.accepted = [];
    this.drafted = [];
    this.run = 0;
    this.depth = 0;
  }

  /** Takes the tokens of one event. */
  take(tokens) {
    if (!tokens.length) return;
    this.first ??= performance.now();
    this.tokens += tokens.length;
    for (const token of tokens) {
      if (token.origin === "draft") {
        const place = Math.min(token.depth ?? 1, DEPTHS) - 1;
        this.accepted[place] = (this.accepted[place] ?? 0) + 1;
        this.run = place + 1;
        continue;
      }
      // A bonus stands behind drafts that were all taken; in other rounds at least one more was made.
      const made = token.origin === "bonus" ? this.run : token.origin === "recovered" ? Math.max(this.run + 1, this.depth) : 0;
      if (token.origin === "bonus") this.depth = this.run;
      for (let place = 0; place < Math.min(made, DEPTHS); place += 1) this.drafted[place] = (this.drafted[place] ?? 0) + 1;
      this.rounds += 1;
      this.run = 0;
    }
  }

  /** Figures so far, under the names of the field `timings`. */
  figures() {
    const seconds = this.first === null ? 0 : (performance.now() - this.first) / 1000;
    return {
      completion_tokens: this.tokens,
      ...(this.prompt === null ? {} : { prompt_tokens: this.prompt }),
      ttft_ms: this.first === null ? performance.now() - this.begun : this.first - this.begun,
      tokens_per_second: seconds > 0.05 ? Math.max(this.tokens - 1, 0) / seconds : 0,
      rounds: this.rounds,
      drafted: Array.from(this.drafted, (made) => made ?? 0),
      accepted: Array.from(this.drafted, (_, place) => this.accepted[place] ?? 0),
    };
  }
}

function figure(label, value, title) {
  return el("span", { class: "figure", title: title ?? null }, el("span", { class: "figure-value" }, value), " ", el("span", { class: "figure-label" }, label));
}

/** Tokens a second, for people. */
export function speed(rate) {
  return rate >= 100 ? count(rate) : rate.toFixed(1);
}

/** Share of the drafts that were accepted at each depth, as bars. */
function acceptance({ drafted = [], accepted = [], rounds = 0, completion_tokens: tokens = 0 }) {
  if (!drafted.some((made) => made > 0)) return null;
  const shares = drafted.map((made, place) => (made ? Math.min((accepted[place] ?? 0) / made, 1) : 0));
  const words = shares.map((share, place) => `depth ${place + 1}: ${accepted[place] ?? 0} of ${drafted[place]}`);
  const bars = shares.map((share, place) => {
    const bar = el("span", { class: "bar" }, el("span", { class: "bar-fill" }));
    bar.firstChild.style.height = `${Math.round(100 * share)}%`;
    return el("span", { class: "depth", title: `Drafts accepted at ${words[place]}` }, bar, el("span", { class: "depth-share" }, `${Math.round(100 * share)}`));
  });
  const label = `Drafts accepted at ${words.join(", ")}`;
  const list = el("span", { class: "depths", role: "img", "aria-label": label }, bars);
  const each = rounds > 1 ? figure("tokens a round", (tokens / rounds).toFixed(2)) : null;
  return [el("span", { class: "figure" }, list, el("span", { class: "figure-label" }, "% accepted by depth")), each];
}

/** A line of figures; `context` is the model's number of tokens. */
export function figureLine(figures, context, live = false) {
  const { prompt_tokens: prompt, completion_tokens: made = 0, tokens_per_second: rate = 0, ttft_ms: first = 0 } = figures;
  const used = (prompt ?? 0) + made;
  const waits = live && made === 0;
  return el(
    "div",
    { class: live ? "figures live" : "figures" },
    waits
      ? figure("reading the prompt", `${(first / 1000).toFixed(1)} s`)
      : [
          rate > 0 ? figure("tok/s", speed(rate), "Tokens a second behind the first one") : null,
          figure("to the first token", `${(first / 1000).toFixed(2)} s`),
          figure(made === 1 ? "token" : "tokens", count(made)),
        ],
    prompt !== undefined && context ? figure(`of ${count(context)} context`, count(used), `${count(prompt)} tokens of the prompt and ${count(made)} of the answer`) : null,
    waits ? null : acceptance(figures),
  );
}

const WORDS = { plain: "decoded plainly", recovered: "drawn in place of a draft that was not accepted", bonus: "drawn behind drafts that were all accepted" };

/** Tokens of an answer, each coloured by its origin. */
export function tinted(tokens) {
  return tokens.map(({ text, origin, depth }) => {
    const title = origin === "draft" ? `draft of depth ${depth}, accepted` : WORDS[origin];
    return el("span", { class: origin === "draft" ? `token draft-${Math.min(depth ?? 1, DEPTHS)}` : `token ${origin}`, title }, text);
  });
}

/** Meaning of the colours; depths up to the deepest that occurs. */
export function legend(tokens) {
  const deepest = Math.max(0, ...tokens.map((token) => (token.origin === "draft" ? (token.depth ?? 1) : 0)));
  const entry = (name, words) => el("span", { class: "legend-entry" }, el("span", { class: `token ${name}` }, "abc"), words);
  return el(
    "div",
    { class: "legend", role: "note", "aria-label": "Colours of tokens by their origin" },
    Array.from({ length: Math.min(deepest, DEPTHS) }, (_, place) => entry(`draft-${place + 1}`, place ? `depth ${place + 1}` : "draft accepted at depth 1")),
    entry("recovered", "drawn in place of a draft"),
    entry("bonus", "bonus behind accepted drafts"),
    entry("plain", "plain"),
  );
}
