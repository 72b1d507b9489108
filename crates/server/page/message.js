// One message of a chat: its text, reasoning, calls, error, figures and buttons.

import { copy, el, fill, iconButton } from "./dom.js";
import { growing, sendsWithEnter } from "./composer.js";
import { icon } from "./icons.js";
import { render } from "./markdown.js";
import { figureLine, legend, tinted } from "./meter.js";
import { fork } from "./tree.js";

/** Text of a reasoning that goes on, and of one that is over. */
function reasoningTitle(node, running) {
  if (running && !node.content && !node.calls?.length) return "Thinking…";
  const words = node.reasoning.trim().split(/\s+/).length;
  return `Reasoning (${words} ${words === 1 ? "word" : "words"})`;
}

/** Arguments as they are read best. */
function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/** An error with a button that tries again. */
export function errorBox(text, retry) {
  const button = retry ? el("button", { type: "button", class: "button", onclick: retry }, icon("retry"), "Retry") : null;
  return el("div", { class: "error", role: "alert" }, icon("warn"), el("p", {}, text), button);
}

/** A message on the screen. `actions` has edit, retry, turn, result, running and drafts. */
export class MessageView {
  constructor(conversation, node, actions) {
    Object.assign(this, { conversation, node, actions });
    const label = { user: "You", assistant: "Answer", tool: "Result of a tool" }[node.role];
    this.body = el("div", { class: "message-body" });
    this.foot = el("div", { class: "message-foot" });
    this.element = el("article", { class: `message ${node.role}`, "aria-label": label, "data-id": node.id }, this.body, this.foot);
    if (node.role === "assistant") {
      this.reasoning = el("div", { class: "reasoning-text" });
      this.summary = el("summary", {});
      this.details = el("details", { class: "reasoning", hidden: true }, this.summary, this.reasoning);
      this.content = el("div", { class: "prose" });
      this.calls = el("div", { class: "calls" });
      this.end = el("div", { class: "message-end" });
      fill(this.body, this.details, this.content, this.calls, this.end);
    }
    this.draw();
  }

  draw() {
    if (this.node.role === "user") this.drawUser();
    else if (this.node.role === "tool") this.drawResult();
    else this.drawAnswer();
  }

  drawUser() {
    fill(this.body, el("div", { class: "bubble" }, this.node.content));
    fill(this.foot, this.buttons());
  }

  drawResult() {
    fill(this.body, el("div", { class: "call" }, el("div", { class: "call-head" }, icon("tool"), el("span", {}, "Result of "), el("code", {}, this.node.name ?? "the tool")), el("pre", { tabindex: 0 }, this.node.content)));
    fill(this.foot);
  }

  drawAnswer() {
    const { node } = this;
    const running = this.actions.running(node);
    this.details.hidden = !node.reasoning;
    if (node.reasoning) {
      const title = reasoningTitle(node, running);
      if (this.summary.textContent !== title) this.summary.textContent = title;
      this.reasoning.textContent = node.reasoning.trim();
    }
    this.drawText(running);
    this.drawCalls(running);
    const shut = !node.finish && !node.error && !running ? "The page was closed before this answer ended. Press Retry for a new one." : null;
    const error = node.error ?? shut;
    const remark = { length: "The answer reached its limit of tokens or the end of the context.", stopped: "Stopped." }[node.finish];
    fill(
      this.end,
      error ? errorBox(error, () => this.actions.retry(node)) : null,
      node.remark ? el("p", { class: "remark" }, node.remark) : null,
      remark && !error ? el("p", { class: "remark" }, remark) : null,
    );
    const context = this.actions.context();
    fill(this.foot, running ? null : this.buttons(), node.figures ? figureLine(node.figures, context, running) : null);
    this.element.classList.toggle("is-running", running);
    this.element.setAttribute("aria-busy", String(running));
  }

  drawText(running) {
    const { node } = this;
    const drafts = this.actions.drafts() && node.tokens?.length > 0;
    const state = `${drafts}:${node.content.length}:${running}`;
    if (state === this.drawn) return;
    this.drawn = state;
    if (drafts) {
      fill(this.content, legend(node.tokens), el("div", { class: "tinted" }, tinted(node.tokens)));
    } else if (node.content) {
      render(node.content, this.content);
    } else {
      const waits = running && !node.reasoning && !node.calls?.length;
      fill(this.content, waits ? el("span", { class: "waiting", role: "img", "aria-label": "Waiting for the first token" }, el("i"), el("i"), el("i")) : null);
    }
  }

  drawCalls(running) {
    const calls = this.node.calls ?? [];
    const state = JSON.stringify([calls, running, this.actions.isLast(this.node)]);
    if (state === this.drawnCalls) return;
    this.drawnCalls = state;
    const wants = calls.length > 0 && !running && !this.node.error && this.actions.isLast(this.node);
    fill(
      this.calls,
      calls.map((call) =>
        el("section", { class: "call", "aria-label": `Call of ${call.name}` },
          el("div", { class: "call-head" }, icon("tool"), el("span", {}, "Calls "), el("code", {}, call.name)),
          el("pre", { tabindex: 0 }, running ? call.arguments : pretty(call.arguments)))),
      wants ? this.results(calls) : null,
    );
  }

  /** Fields for the results, which somebody else has to find: this page runs no tools. */
  results(calls) {
    const areas = calls.map((call) => growing(el("textarea", { rows: 2, "aria-label": `Result of ${call.name}`, placeholder: `Result of ${call.name}` })));
    const send = el("button", { type: "button", class: "button", onclick: () => this.actions.result(this.node, areas.map((area) => area.value)) }, calls.length > 1 ? "Send the results" : "Send the result");
    return el("div", { class: "results" }, el("p", { class: "remark" }, "The model waits for a result. This page runs no tools: write what the tool would give."), areas, send);
  }

  buttons() {
    const { node, actions } = this;
    const { place, siblings } = fork(this.conversation, node);
    const branches = siblings.length > 1
      ? el("span", { class: "branches", role: "group", "aria-label": "Branches" },
          iconButton(icon("left"), "Earlier branch", () => actions.turn(node, -1), { disabled: place === 0 }),
          el("span", { class: "branch-place", "aria-label": `Branch ${place + 1} of ${siblings.length}` }, `${place + 1}/${siblings.length}`),
          iconButton(icon("right"), "Later branch", () => actions.turn(node, 1), { disabled: place === siblings.length - 1 }))
      : null;
    const copying = iconButton(icon("copy"), "Copy message", (event) => copy(node.content, event.currentTarget, icon("check")));
    const own = node.role === "user"
      ? iconButton(icon("edit"), "Edit message", () => this.edit())
      : iconButton(icon("retry"), "Answer again", () => actions.retry(node));
    return el("div", { class: "message-buttons" }, branches, copying, own);
  }

  /** An editor in place of the message. */
  edit() {
    const area = growing(el("textarea", { class: "editor-text", "aria-label": "Edit message" }));
    area.value = this.node.content;
    const back = () => this.draw();
    const send = () => {
      if (area.value.trim()) this.actions.edit(this.node, area.value);
    };
    sendsWithEnter(area, send);
    area.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        back();
      }
    });
    const buttons = el("div", { class: "editor-buttons" },
      el("button", { type: "button", class: "button", onclick: back }, "Cancel"),
      el("button", { type: "button", class: "button primary", onclick: send }, "Send"));
    fill(this.body, el("div", { class: "editor" }, area, buttons));
    fill(this.foot);
    area.fit();
    area.focus();
  }
}
