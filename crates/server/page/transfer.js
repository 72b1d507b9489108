// Export and import of the history: what comes from a file is checked before any of it is kept.

import { emptyAnswer } from "./generate.js";
import { NUMBERS } from "./settings.js";
import { KINDS, NO_SETTINGS } from "./tree.js";

const FORMAT = "mtplx-conversations";
const MOST_BYTES = 64e6;

/** The text of a file with these conversations. */
export function exported(conversations) {
  return `${JSON.stringify({ format: FORMAT, version: 1, conversations }, null, 1)}\n`;
}

class Wrong extends Error {}

function need(holds, where, expected) {
  if (!holds) throw new Wrong(`${where}: expected ${expected}`);
}

const isText = (value) => typeof value === "string";
const isId = (value) => isText(value) && /^[0-9a-zA-Z_-]{1,64}$/.test(value);
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const optional = (value, test) => value === undefined || value === null || test(value);

function tokens(list, where) {
  need(Array.isArray(list), where, "a list");
  return list.map((token, place) => {
    const at = `${where}[${place}]`;
    need(isObject(token) && isText(token.text), at, "a token with its text");
    need(["plain", "draft", "recovered", "bonus"].includes(token.origin), `${at}.origin`, "plain, draft, recovered or bonus");
    need(optional(token.depth, (depth) => Number.isInteger(depth) && depth >= 1 && depth <= 8), `${at}.depth`, "a number from 1 to 8");
    return { text: token.text, origin: token.origin, ...(token.depth ? { depth: token.depth } : {}) };
  });
}

/** Numbers and lists of numbers alone. */
function figures(value, where) {
  need(isObject(value), where, "an object");
  const kept = {};
  for (const [name, figure] of Object.entries(value)) {
    if (isNumber(figure) || (Array.isArray(figure) && figure.every(isNumber))) kept[name] = figure;
  }
  return kept;
}

function settings(value, where) {
  need(isObject(value), where, "an object");
  const kept = { ...NO_SETTINGS };
  for (const name of Object.keys(NO_SETTINGS)) {
    const given = value[name];
    if (given === undefined || given === null) continue;
    const at = `${where}.${name}`;
    if (name === "system" || name === "tools") need(isText(given), at, "a text");
    else if (name === "mtp" || name === "thinking") need(typeof given === "boolean", at, "true or false");
    else {
      const [, least, most] = NUMBERS[name] ?? ["", 0, 8];
      need(isNumber(given) && given >= least && given <= most, at, `a number from ${least} to ${most}`);
    }
    kept[name] = given;
  }
  return kept;
}

function node(value, where) {
  need(isObject(value), where, "an object");
  need(isId(value.id), `${where}.id`, "an id");
  need(value.parent === null || isId(value.parent), `${where}.parent`, "an id or null");
  need(["user", "assistant", "tool"].includes(value.role), `${where}.role`, "user, assistant or tool");
  need(isText(value.content), `${where}.content`, "a text");
  const kept = { id: value.id, parent: value.parent, role: value.role, content: value.content, created: isNumber(value.created) ? value.created : 0 };
  for (const name of ["reasoning", "error", "finish", "call", "name", "remark"]) {
    need(optional(value[name], isText), `${where}.${name}`, "a text");
    if (value[name]) kept[name] = value[name];
  }
  if (value.calls) {
    need(Array.isArray(value.calls), `${where}.calls`, "a list");
    kept.calls = value.calls.map((call, place) => {
      const holds = isObject(call) && isText(call.id) && isText(call.name) && isText(call.arguments);
      need(holds, `${where}.calls[${place}]`, "id, name and arguments");
      return { id: call.id, name: call.name, arguments: call.arguments };
    });
  }
  if (value.tokens) kept.tokens = tokens(value.tokens, `${where}.tokens`);
  if (value.figures) kept.figures = figures(value.figures, `${where}.figures`);
  return kept;
}

function run(value, where) {
  need(isObject(value), where, "an object");
  need(optional(value.mtp, (mtp) => typeof mtp === "boolean"), `${where}.mtp`, "true or false");
  need(isText(value.content), `${where}.content`, "a text");
  const kept = { ...emptyAnswer(), content: value.content };
  if (typeof value.mtp === "boolean") kept.mtp = value.mtp;
  for (const name of ["reasoning", "error", "finish", "remark"]) {
    need(optional(value[name], isText), `${where}.${name}`, "a text");
    if (value[name]) kept[name] = value[name];
  }
  if (isNumber(value.seed)) kept.seed = value.seed;
  if (value.tokens) kept.tokens = tokens(value.tokens, `${where}.tokens`);
  if (value.figures) kept.figures = figures(value.figures, `${where}.figures`);
  return kept;
}

function conversation(value, where) {
  need(isObject(value), where, "an object");
  need(isId(value.id), `${where}.id`, "an id");
  need(KINDS.includes(value.kind), `${where}.kind`, KINDS.join(", "));
  need(isText(value.title), `${where}.title`, "a text");
  need(isNumber(value.created) && isNumber(value.updated), where, "created and updated");
  need(Array.isArray(value.nodes), `${where}.nodes`, "a list");
  const nodes = value.nodes.map((entry, place) => node(entry, `${where}.nodes[${place}]`));
  // Parents come before their children, so that no message is its own ancestor.
  const known = new Set();
  nodes.forEach((entry, place) => {
    need(entry.parent === null || known.has(entry.parent), `${where}.nodes[${place}].parent`, "the id of an earlier message");
    need(!known.has(entry.id), `${where}.nodes[${place}].id`, "an id of its own");
    known.add(entry.id);
  });
  const chosen = {};
  for (const [parent, child] of Object.entries(isObject(value.chosen) ? value.chosen : {})) {
    if ((parent === "" || known.has(parent)) && known.has(child)) chosen[parent] = child;
  }
  const runs = (Array.isArray(value.runs) ? value.runs : []).map((entry, place) => run(entry, `${where}.runs[${place}]`));
  const kept = { id: value.id, kind: value.kind, title: value.title, created: value.created, updated: value.updated };
  need(optional(value.text, isText), `${where}.text`, "a text");
  return { ...kept, settings: settings(value.settings ?? {}, `${where}.settings`), nodes, chosen, text: value.text ?? "", runs };
}

/** The conversations in a file's text. Throws an error with a sentence for people; nothing was kept then. */
export function imported(text) {
  if (text.length > MOST_BYTES) throw new Error("The file is larger than 64 MB. Export fewer conversations.");
  let document;
  try {
    document = JSON.parse(text);
  } catch (error) {
    throw new Error(`The file is no JSON (${error.message}). Choose a file that this page exported.`);
  }
  try {
    need(isObject(document) && document.format === FORMAT, "format", `"${FORMAT}"`);
    need(document.version === 1, "version", "1");
    need(Array.isArray(document.conversations), "conversations", "a list");
    return document.conversations.map((entry, place) => conversation(entry, `conversations[${place}]`));
  } catch (error) {
    if (!(error instanceof Wrong)) throw error;
    throw new Error(`The file was not imported, and nothing was changed: ${error.message}.`);
  }
}
