// The page: what is shown, what runs, what is kept.

import { get, isThere, onKeyWanted } from "./api.js";
import { ChatView } from "./chat.js";
import { CompareView } from "./compare.js";
import { CompletionView } from "./completion.js";
import { askForKey } from "./dialogs.js";
import { byId, el, fill, randomId, toast } from "./dom.js";
import { icon } from "./icons.js";
import { SettingsPanel } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { showStatus, verdictMark } from "./status.js";
import * as store from "./store.js";
import { isEmpty, newConversation, NO_SETTINGS, titleOf } from "./tree.js";

class App {
  constructor() {
    this.conversations = [];
    this.details = null;
    this.modelName = "the model";
    this.showsDrafts = store.preference("drafts", false);
    this.runs = new Map();
    this.settings = { ...NO_SETTINGS, ...store.preference("settings", {}) };
  }

  async start() {
    this.paintTheme();
    onKeyWanted(askForKey);
    this.sidebar = new Sidebar(this);
    this.panel = new SettingsPanel(this);
    this.views = { chat: new ChatView(this), completion: new CompletionView(this), compare: new CompareView(this) };
    this.paintTheme();
    this.listen();
    // Shown before the history is read: whoever is quick begins at once.
    this.create("chat");
    this.first = this.conversation;
    if (!(await store.open())) toast("This browser keeps no history here: conversations go when the page is closed.");
    const known = new Set(this.conversations.map((conversation) => conversation.id));
    this.conversations.push(...(await store.all()).filter((conversation) => !known.has(conversation.id)));
    await this.look();
  }

  listen() {
    byId("menu").append(icon("menu"));
    byId("menu").addEventListener("click", () => this.openDrawer());
    byId("scrim").addEventListener("click", () => this.closeDrawer());
    byId("settings-button").append(icon("sliders"));
    byId("settings-button").addEventListener("click", () => this.panel.toggle());
    byId("model").addEventListener("click", showStatus);
    document.addEventListener("keydown", (event) => this.key(event));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.paintTheme());
    addEventListener("beforeunload", () => {
      for (const { conversation } of this.runs.values()) this.save(conversation);
    });
  }

  key(event) {
    if ((event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey && event.key.toLowerCase() === "k") {
      event.preventDefault();
      if (!document.querySelector("dialog[open]")) this.create("chat");
      return;
    }
    if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
    if (this.isBusy(this.conversation)) this.stop(this.conversation);
    else if (document.body.classList.contains("drawer-open")) this.closeDrawer();
    else if (this.panel.isOpen) this.panel.close();
  }

  /** Asks the server for its model. */
  async look() {
    try {
      const status = await get("/status");
      this.modelName = status.model;
      this.details = status.details;
      this.problem = null;
      this.state = status.status;
    } catch (error) {
      this.problem = error;
    }
    this.drawAll();
    if (this.details && this.first) this.choose();
    if (this.problem?.kind === "gone") this.waitForServer();
    else if (this.state === "loading" && !this.details) setTimeout(() => this.look(), 2000);
  }

  /** Models for raw text begin with the completion, unless something else was begun. */
  choose() {
    const { first } = this;
    this.first = null;
    if (this.details.prompt_mode === "raw" && this.conversation === first && isEmpty(first)) this.create("completion");
  }

  /** Looks every two seconds for a server that is gone. */
  async waitForServer() {
    if (this.waits) return;
    this.waits = true;
    while (!(await isThere())) await new Promise((done) => setTimeout(done, 2000));
    this.waits = false;
    this.look();
  }

  get view() {
    return this.views[this.conversation.kind];
  }

  /** Shows a new conversation; one that is still empty is taken again. */
  create(kind) {
    const empty = this.conversation && isEmpty(this.conversation) && this.conversation.kind === kind ? this.conversation : null;
    this.open(empty ?? newConversation(kind, this.settings));
  }

  open(conversation) {
    this.conversation = conversation;
    fill(byId("view"), this.view.element);
    this.closeDrawer();
    this.view.show(conversation);
    this.drawAll();
  }

  drawAll() {
    const { conversation, details, problem } = this;
    byId("title").textContent = isEmpty(conversation) ? { chat: "New chat", completion: "New completion", compare: "New comparison" }[conversation.kind] : titleOf(conversation);
    document.title = isEmpty(conversation) ? "mtplx" : `${titleOf(conversation)} – mtplx`;
    const state = problem ? el("span", { class: "verdict bad" }, problem.kind === "key" ? "key wanted" : "no answer") : details ? verdictMark(details.verdict.name) : this.state === "loading" ? el("span", { class: "verdict" }, "loading") : null;
    fill(byId("model"), el("span", { class: "model-name" }, this.modelName), state);
    this.sidebar.draw();
    this.panel.draw();
    if (isEmpty(conversation) || conversation.kind !== "chat") this.view.redraw();
    if (isEmpty(conversation) && conversation.kind === "chat") this.view.draw();
  }

  /** Takes a conversation into the list and keeps it. */
  keep(conversation) {
    if (!this.conversations.includes(conversation)) this.conversations.push(conversation);
    this.save(conversation);
    byId("title").textContent = titleOf(this.conversation);
    document.title = `${titleOf(this.conversation)} – mtplx`;
    this.sidebar.draw();
  }

  async save(conversation) {
    if (!this.conversations.includes(conversation)) return;
    try {
      await store.put(conversation);
    } catch (error) {
      toast(`This browser did not keep the conversation (${error.message}). Export it, or delete older ones.`);
    }
  }

  async remove(conversation) {
    this.stop(conversation);
    this.conversations = this.conversations.filter((other) => other !== conversation);
    await store.remove(conversation.id);
    if (conversation === this.conversation) this.open(newConversation(conversation.kind, this.settings));
    else this.drawAll();
    byId("new-chat").focus();
  }

  /** Keeps conversations of a file beside those that are there. Gives their number. */
  async adopt(conversations) {
    const known = new Set(this.conversations.map((conversation) => conversation.id));
    for (const conversation of conversations) {
      // The same conversation may have gone on here meanwhile: both are kept.
      if (known.has(conversation.id)) conversation.id = randomId();
      known.add(conversation.id);
    }
    await store.putAll(conversations);
    this.conversations.push(...conversations);
    this.drawAll();
    return conversations.length;
  }

  setSetting(conversation, name, value) {
    conversation.settings[name] = value;
    this.settings = { ...this.settings, [name]: value };
    // A seed and a system prompt belong to one conversation.
    store.setPreference("settings", { ...this.settings, seed: null, system: "" });
    this.settings.seed = null;
    this.settings.system = "";
    this.save(conversation);
    if (name === "mtp") {
      this.view.redraw();
      // The panel's own switch has drawn itself, and keeps the focus.
      if (!this.panel.element.contains(document.activeElement)) this.panel.draw();
    }
  }

  setDrafts(on) {
    this.showsDrafts = on;
    store.setPreference("drafts", on);
    this.view.redraw();
  }

  /** Notes that something runs in a conversation; `what` is the message or the part that it writes. */
  begin(conversation, what) {
    const controller = new AbortController();
    this.runs.set(conversation.id, { conversation, controller, what });
    return controller.signal;
  }

  /** Notes that another part of the same run has begun. */
  mark(conversation, what) {
    this.runs.get(conversation.id).what = what;
  }

  end(conversation) {
    this.runs.delete(conversation.id);
    // Whoever has closed the question for the key is not asked again before the next request.
    if (this.problem && this.problem.kind !== "key") this.look();
    else this.sidebar.draw();
  }

  stop(conversation) {
    this.runs.get(conversation.id)?.controller.abort();
  }

  isBusy(conversation) {
    return this.runs.has(conversation.id);
  }

  isRunning(conversation, what) {
    return this.runs.get(conversation.id)?.what === what;
  }

  openDrawer() {
    document.body.classList.add("drawer-open");
    byId("menu").setAttribute("aria-expanded", "true");
    byId("new-chat").focus();
  }

  closeDrawer() {
    if (!document.body.classList.contains("drawer-open")) return;
    document.body.classList.remove("drawer-open");
    byId("menu").setAttribute("aria-expanded", "false");
    byId("menu").focus();
  }

  get isDark() {
    const chosen = store.preference("theme", null);
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }

  paintTheme() {
    document.documentElement.dataset.theme = this.isDark ? "dark" : "light";
    this.sidebar?.drawTheme(this.isDark);
  }

  turnTheme() {
    store.setPreference("theme", this.isDark ? "light" : "dark");
    this.paintTheme();
  }
}

new App().start();
