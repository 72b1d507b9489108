// Markdown to elements: the one file of the page that sets HTML, and only what the two libraries wrote.
//
// markdown-it runs with `html: false`, so that markup in an answer is text. Links are those of three protocols; an image is a link, since
// a picture from elsewhere would tell its host that this text was read.

import highlighter from "./vendor/highlight.js";
import MarkdownIt from "./vendor/markdown-it.js";
import { copy, el } from "./dom.js";
import { icon } from "./icons.js";

/** Longer blocks of code are shown without colours: they would be coloured anew with every token. */
const MOST_COLOURED = 40_000;

const markdown = new MarkdownIt({ html: false, linkify: true, typographer: false, breaks: false, langPrefix: "language-" });
// Only what is written as a link or an address with its protocol is one.
markdown.linkify.set({ fuzzyLink: false, fuzzyEmail: false, fuzzyIP: false });
markdown.validateLink = (address) => /^(https?:\/\/|mailto:)/i.test(address.trim());

markdown.options.highlight = (code, language) => {
  if (!language || !highlighter.getLanguage(language) || code.length > MOST_COLOURED) return "";
  return highlighter.highlight(code, { language, ignoreIllegals: true }).value;
};

markdown.renderer.rules.link_open = (tokens, place, options, _, self) => {
  tokens[place].attrSet("target", "_blank");
  tokens[place].attrSet("rel", "noopener noreferrer nofollow");
  return self.renderToken(tokens, place, options);
};

markdown.renderer.rules.image = (tokens, place) => {
  const address = tokens[place].attrGet("src") ?? "";
  const words = markdown.utils.escapeHtml(tokens[place].content || address);
  return `<a href="${markdown.utils.escapeHtml(address)}" target="_blank" rel="noopener noreferrer nofollow">${words}</a>`;
};

// Columns are aligned by a class: the page's policy forbids styles that stand inline.
for (const rule of ["th_open", "td_open"]) {
  markdown.renderer.rules[rule] = (tokens, place, options, _, self) => {
    const style = tokens[place].attrGet("style");
    if (style) {
      tokens[place].attrs = tokens[place].attrs.filter(([name]) => name !== "style");
      tokens[place].attrJoin("class", `align-${style.replace("text-align:", "")}`);
    }
    return self.renderToken(tokens, place, options);
  };
}

/** A block of code under a line with its language and a button. */
function framed(pre) {
  const code = pre.querySelector("code");
  const language = (code?.className.match(/language-(\S+)/) ?? [])[1] ?? "text";
  const button = el("button", { type: "button", class: "code-copy", "aria-label": "Copy code" }, icon("copy"), "Copy");
  button.addEventListener("click", () => copy(code?.textContent ?? "", button, [icon("check"), "Copied"]));
  const frame = el("div", { class: "code-block" }, el("div", { class: "code-head" }, el("span", {}, language), button));
  pre.replaceWith(frame);
  pre.tabIndex = 0;
  frame.append(pre);
}

/** Renders `text` into `element`. */
export function render(text, element) {
  element.innerHTML = markdown.render(text);
  element.querySelectorAll("pre").forEach(framed);
  for (const table of element.querySelectorAll("table")) {
    const frame = el("div", { class: "table-frame" });
    table.replaceWith(frame);
    frame.append(table);
  }
}
