// The chat: messages on the way through the tree, and the requests that answer them.

import { announce, count, el, fill, paced, randomId } from "./dom.js";
import { composer, follow, jumpButton, toggle } from "./composer.js";
import { chatFields, emptyAnswer, generate } from "./generate.js";
import { MessageView, errorBox } from "./message.js";
import { add, messages, path, turn } from "./tree.js";

export class ChatView {
  constructor(app) {
    this.app = app;
    this.list = el("div", { class: "messages", role: "log", "aria-live": "off", "aria-label": "Conversation" });
    const jump = jumpButton();
    this.scroller = el("div", { class: "scroller", tabindex: -1 }, this.list);
    this.settle = follow(this.scroller, jump);
    this.mtp = toggle("MTP", "Draft with the model's own heads: the same text law, more tokens a second", () => this.conversation?.settings.mtp ?? true, (on) => app.setSetting(this.conversation, "mtp", on));
    this.drafts = toggle("Show drafts", "Colour accepted drafts by their depth", () => app.showsDrafts, (on) => app.setDrafts(on));
    this.composer = composer({
      label: "Message",
      placeholder: "Message",
      send: (text) => this.send(text),
      stop: () => app.stop(this.conversation),
      controls: [this.mtp, this.drafts],
    });
    this.element = el("div", { class: "view" }, this.scroller, el("div", { class: "dock" }, jump, this.composer.element));
    this.views = new Map();
    this.paint = paced(() => {
      for (const id of this.changed) this.views.get(id)?.draw();
      this.changed.clear();
      this.settle();
    });
    this.changed = new Set();
  }

  /** Shows a conversation. */
  show(conversation) {
    this.conversation = conversation;
    this.draw();
    this.settle(true);
    this.composer.focus();
  }

  draw() {
    const { conversation, app } = this;
    const way = path(conversation);
    this.views.clear();
    this.lastId = way.length ? way[way.length - 1].id : null;
    const actions = {
      edit: (node, text) => this.edit(node, text),
      retry: (node) => this.answer(node.parent),
      turn: (node, by) => {
        turn(conversation, node, by);
        app.save(conversation);
        this.draw();
        this.views.get(node.parent ?? "")?.element.scrollIntoView({ block: "nearest" });
      },
      result: (node, texts) => this.results(node, texts),
      running: (node) => app.isRunning(conversation, node.id),
      context: () => app.details?.context,
      drafts: () => app.showsDrafts,
      isLast: (node) => node.id === this.lastId,
    };
    fill(this.list, way.length ? null : this.welcome());
    for (const node of way) {
      const view = new MessageView(conversation, node, actions);
      this.views.set(node.id, view);
      this.list.append(view.element);
    }
    // A question whose answer was never begun, such as one that was imported.
    const last = way[way.length - 1];
    if (last && last.role !== "assistant") {
      this.list.append(errorBox("This message has no answer yet.", () => this.answer(last.id)));
    }
    this.composer.area.placeholder = `Message ${app.modelName}`;
    this.composer.setBusy(app.isBusy(conversation));
    this.mtp.draw();
    this.drafts.draw();
  }

  welcome() {
    const { app } = this;
    const details = app.details;
    const raw = details?.prompt_mode === "raw";
    const facts = details ? [details.verdict.name, `${count(details.context)} tokens of context`, details.max_depth ? `drafts up to depth ${details.max_depth}` : "no draft head"] : [];
    return el("div", { class: "welcome" },
      el("h2", {}, app.modelName),
      el("p", { class: "facts" }, facts.join(" · ")),
      raw
        ? el("p", { class: "notice" }, details.chat ? "This model was made to go on with text. " : "This model has no chat template. ",
            el("button", { type: "button", class: "link", onclick: () => app.create("completion") }, "Write a completion"), details.chat ? ", or chat with it all the same." : " instead.")
        : el("p", {}, "Write a message to begin."),
      el("p", { class: "keys" }, el("kbd", {}, "Enter"), " sends  ", el("kbd", {}, "Shift"), " + ", el("kbd", {}, "Enter"), " new line  ", el("kbd", {}, "Esc"), " stops  ", el("kbd", {}, "Ctrl"), " + ", el("kbd", {}, "K"), " new chat"));
  }

  async send(text) {
    if (this.app.isBusy(this.conversation)) return false;
    const way = path(this.conversation);
    const node = add(this.conversation, way.length ? way[way.length - 1].id : null, { role: "user", content: text });
    this.answer(node.id);
    return true;
  }

  edit(node, text) {
    if (this.app.isBusy(this.conversation)) return;
    const branch = add(this.conversation, node.parent, { role: "user", content: text });
    this.answer(branch.id);
  }

  /** Results of the calls in `node`, one message a call, then the answer to them. */
  results(node, texts) {
    if (this.app.isBusy(this.conversation)) return;
    let parent = node.id;
    node.calls.forEach((call, place) => {
      parent = add(this.conversation, parent, { role: "tool", content: texts[place], call: call.id, name: call.name }).id;
    });
    this.answer(parent);
  }

  /** A new answer below `parent`. */
  async answer(parent) {
    const { app, conversation } = this;
    if (app.isBusy(conversation)) return;
    const node = add(conversation, parent, { role: "assistant", ...emptyAnswer() });
    const signal = app.begin(conversation, node.id);
    app.keep(conversation);
    this.draw();
    this.settle(true);
    announce("Answer begun");
    try {
      const body = { messages: messages(conversation, parent), ...chatFields(conversation.settings) };
      let saved = performance.now();
      await generate("/v1/chat/completions", body, node, () => {
        // Another conversation may be shown meanwhile.
        if (this.conversation === conversation) {
          this.changed.add(node.id);
          this.paint();
        }
        if (performance.now() - saved > 2000) {
          saved = performance.now();
          app.save(conversation);
        }
      }, signal);
    } catch (error) {
      node.error = error.message;
    }
    node.calls.forEach((call) => (call.id ||= `call_${randomId()}`));
    app.end(conversation);
    app.save(conversation);
    if (this.conversation === conversation && app.view === this) {
      this.composer.setBusy(false);
      this.changed.add(node.id);
      this.paint.now();
    }
    announce(node.error ? `Error: ${node.error}` : node.finish === "stopped" ? "Stopped" : `Answer complete, ${node.figures?.completion_tokens ?? 0} tokens`);
  }

  /** Draws answers anew where a setting of the view has changed. */
  redraw() {
    this.mtp.draw();
    this.drafts.draw();
    for (const view of this.views.values()) if (view.node.role === "assistant") view.draw();
    this.settle();
  }
}
