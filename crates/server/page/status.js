// The status panel: model, verdict, memory, requests.

import { get } from "./api.js";
import { bytes, count, el, fill } from "./dom.js";
import { dialog, facts } from "./dialogs.js";

const VERDICTS = {
  verified: "The drafts of these very files were tested against plain decoding, and passed.",
  unverified: "Nothing says yet that drafting with these files changes no text. The comparison shows it for one prompt at a time.",
  contradicted: "The evidence of these files speaks against their drafts.",
  incomplete: "The draft head is not complete, so that it decodes plainly.",
  "no MTP": "The model has no draft head and decodes plainly.",
};

const MEMORY = { active: "in use", peak: "most so far", cache: "kept for reuse", prefixes: "kept prompts" };

/** A verdict as a coloured word. */
export function verdictMark(name) {
  return el("span", { class: name === "verified" ? "verdict good" : "verdict" }, name);
}

function rows(status) {
  const { details, device, memory_bytes: memory } = status;
  const state = { ok: "ready", idle: "idle: the next request loads the model", loading: "loading", dead: "ended: start the server again" }[status.status];
  const depth = details && (details.max_depth ? `${details.defaults?.depth === "auto" ? "chosen each round" : (details.defaults?.depth ?? "?")}, at most ${details.max_depth}` : "no draft head");
  return [
    ["Model", status.model],
    ["Files", details?.label === status.model ? null : details?.label],
    ["Verdict", details ? el("span", {}, verdictMark(details.verdict.name), " ", details.verdict.text === details.verdict.name ? "" : details.verdict.text.slice(details.verdict.name.length + 2)) : "not known before the model was loaded"],
    ["", details ? el("span", { class: "remark" }, VERDICTS[details.verdict.name] ?? "") : null],
    ["Architecture", details?.architecture],
    ["Draft depth", depth],
    ["Context", details ? `${count(details.context)} tokens` : null],
    ["Prompts", details ? { chat: "messages, through the chat template", raw: "raw text; completions suit it best" }[details.prompt_mode] : null],
    ["Device", [device.kind.toUpperCase(), device.name].filter(Boolean).join(", ")],
    ["Weights", details ? bytes(details.weight_bytes) : null],
    ["Memory", el("ul", { class: "plain-list" }, Object.entries(memory).map(([kind, size]) => el("li", {}, `${bytes(size)} ${MEMORY[kind] ?? kind}`)))],
    ["Requests", `${status.running} running, ${status.queued} queued`],
    ["State", state],
    ["Version", `mtplx ${status.version}`],
  ];
}

/** Opens the panel, which looks again every two seconds. */
export async function showStatus() {
  const box = el("div", { class: "status-body", "aria-busy": "true" }, "…");
  const look = async () => {
    try {
      fill(box, facts(rows(await get("/status"))));
    } catch (error) {
      fill(box, el("p", {}, error.message));
    }
    box.removeAttribute("aria-busy");
  };
  const clock = setInterval(look, 2000);
  look();
  await dialog("Status", () => el("div", {}, box, el("p", { class: "remark licences" }, "Markdown by ", el("a", { href: "/page/vendor/LICENSE.markdown-it", target: "_blank" }, "markdown-it"), ", code by ", el("a", { href: "/page/vendor/LICENSE.highlight", target: "_blank" }, "highlight.js"), ".")));
  clearInterval(clock);
}
