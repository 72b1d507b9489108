// The list of conversations: search, rename, delete, export, import, theme.

import { confirm, tell } from "./dialogs.js";
import { announce, byId, el, fill, iconButton, toast } from "./dom.js";
import { icon } from "./icons.js";
import { exported, imported } from "./transfer.js";
import { holds, isEmpty, titleOf } from "./tree.js";

const DAY = 86_400_000;

function age(conversation, now) {
  const midnight = new Date(now).setHours(0, 0, 0, 0);
  if (conversation.updated >= midnight) return "Today";
  if (conversation.updated >= midnight - DAY) return "Yesterday";
  if (conversation.updated >= midnight - 7 * DAY) return "The last seven days";
  return "Earlier";
}

export class Sidebar {
  constructor(app) {
    this.app = app;
    this.element = byId("sidebar");
    this.list = el("nav", { class: "history", "aria-label": "Conversations" });
    this.search = el("input", { type: "search", id: "search", placeholder: "Search", "aria-label": "Search conversations", autocomplete: "off" });
    this.search.addEventListener("input", () => this.draw());
    this.search.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown") this.focusEntry(event, 0);
    });
    this.list.addEventListener("keydown", (event) => this.walk(event));
    this.file = el("input", { type: "file", accept: ".json,application/json", hidden: true, id: "import-file", "aria-label": "File to import" });
    this.file.addEventListener("change", () => this.import());
    const make = (kind, symbol, label) => el("button", { type: "button", class: "button wide", onclick: () => app.create(kind) }, icon(symbol), label);
    this.theme = el("button", { type: "button", class: "icon-button", onclick: () => app.turnTheme() });
    fill(
      this.element,
      el("div", { class: "brand" }, el("img", { src: "/page/icon.svg", alt: "", width: 24, height: 24 }), el("span", {}, "mtplx"), iconButton(icon("close"), "Close the list", () => app.closeDrawer(), { class: "icon-button drawer-close" })),
      el("div", { class: "makers" },
        el("button", { type: "button", class: "button wide primary", id: "new-chat", title: "New chat (Ctrl or Cmd and K)", onclick: () => app.create("chat") }, icon("plus"), "New chat"),
        el("div", { class: "makers-row" }, make("completion", "text", "Completion"), make("compare", "compare", "Compare"))),
      el("div", { class: "search" }, icon("search"), this.search),
      this.list,
      el("div", { class: "sidebar-foot" },
        iconButton(icon("import"), "Import conversations", () => this.file.click()),
        iconButton(icon("export"), "Export all conversations", () => this.export()),
        this.theme,
        this.file),
    );
  }

  /** Draws the list; entries keep the focus. */
  draw() {
    const { app } = this;
    const letters = this.search.value.trim();
    const kept = app.conversations.filter((conversation) => !isEmpty(conversation) && (!letters || holds(conversation, letters)));
    kept.sort((a, b) => b.updated - a.updated);
    const focused = document.activeElement?.closest?.(".entry")?.dataset.id;
    const groups = new Map();
    const now = Date.now();
    for (const conversation of kept) {
      const name = age(conversation, now);
      if (!groups.has(name)) groups.set(name, []);
      groups.get(name).push(conversation);
    }
    const nothing = letters ? `Nothing holds “${letters}”.` : "Conversations are kept in this browser.";
    fill(
      this.list,
      kept.length ? null : el("p", { class: "remark" }, nothing),
      [...groups].map(([name, entries]) => el("section", { "aria-label": name }, el("h3", {}, name), el("ul", {}, entries.map((entry) => this.entry(entry))))),
    );
    if (focused) this.list.querySelector(`[data-id="${focused}"] .entry-open`)?.focus();
  }

  entry(conversation) {
    const { app } = this;
    const current = conversation === app.conversation;
    const title = titleOf(conversation);
    const symbol = { chat: "chat", completion: "text", compare: "compare" }[conversation.kind];
    const open = el("button", { type: "button", class: "entry-open", "aria-current": current ? "page" : null, onclick: () => app.open(conversation) }, icon(symbol), el("span", { class: "entry-title" }, title));
    open.addEventListener("keydown", (event) => {
      if (event.key === "F2") this.rename(conversation, item);
      if (event.key === "Delete") this.remove(conversation);
    });
    const item = el("li", { class: current ? "entry current" : "entry", "data-id": conversation.id },
      open,
      iconButton(icon("edit"), `Rename ${title}`, () => this.rename(conversation, item)),
      iconButton(icon("trash"), `Delete ${title}`, () => this.remove(conversation)));
    return item;
  }

  /** Arrows go through the list. */
  walk(event) {
    const entries = [...this.list.querySelectorAll(".entry-open")];
    const at = entries.indexOf(document.activeElement);
    if (at < 0) return;
    if (event.key === "ArrowUp" && at === 0) {
      event.preventDefault();
      this.search.focus();
      return;
    }
    const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: entries.length - 1 }[event.key];
    if (next !== undefined) this.focusEntry(event, next);
  }

  focusEntry(event, place) {
    const entry = this.list.querySelectorAll(".entry-open")[place];
    if (!entry) return;
    event.preventDefault();
    entry.focus();
  }

  rename(conversation, item) {
    const field = el("input", { type: "text", class: "entry-field", "aria-label": "New title", maxlength: 200 });
    field.value = titleOf(conversation);
    let over = false;
    const end = (keeps) => {
      if (over) return;
      over = true;
      if (keeps && field.value.trim()) {
        conversation.title = field.value.trim();
        this.app.save(conversation);
      }
      this.app.drawAll();
      this.list.querySelector(`[data-id="${conversation.id}"] .entry-open`)?.focus();
    };
    field.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Enter") end(true);
      if (event.key === "Escape") end(false);
    });
    field.addEventListener("blur", () => end(true));
    fill(item, field);
    field.select();
    field.focus();
  }

  async remove(conversation) {
    if (await confirm("Delete the conversation?", `“${titleOf(conversation)}” is deleted from this browser. Export it first to keep it.`, "Delete")) {
      await this.app.remove(conversation);
    }
  }

  export() {
    const kept = this.app.conversations.filter((conversation) => !isEmpty(conversation));
    const address = URL.createObjectURL(new Blob([exported(kept)], { type: "application/json" }));
    const link = el("a", { href: address, download: `mtplx-conversations-${new Date().toISOString().slice(0, 10)}.json` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
    toast(`Exported ${kept.length} ${kept.length === 1 ? "conversation" : "conversations"}.`);
  }

  async import() {
    const file = this.file.files[0];
    this.file.value = "";
    if (!file) return;
    try {
      const added = await this.app.adopt(imported(await file.text()));
      const words = `Imported ${added} ${added === 1 ? "conversation" : "conversations"}.`;
      toast(words);
      announce(words);
    } catch (error) {
      await tell("The import failed", error.message);
    }
  }

  drawTheme(dark) {
    fill(this.theme, icon(dark ? "sun" : "moon"));
    this.theme.title = dark ? "Light colours" : "Dark colours";
    this.theme.setAttribute("aria-label", this.theme.title);
  }
}
