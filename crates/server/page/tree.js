// Conversations: messages form a tree, and one way through it is shown. No element is touched here.

import { randomId } from "./dom.js";

/** Kinds of conversations. */
export const KINDS = ["chat", "completion", "compare"];

/** Settings of a new conversation: empty ones are the model's own. */
export const NO_SETTINGS = {
  system: "",
  temperature: null,
  top_p: null,
  top_k: null,
  min_p: null,
  repetition_penalty: null,
  seed: null,
  max_tokens: null,
  depth: null,
  mtp: true,
  thinking: null,
  tools: "",
};

/** A new conversation without messages. */
export function newConversation(kind, settings) {
  const now = Date.now();
  return { id: randomId(), kind, title: "", created: now, updated: now, settings: { ...NO_SETTINGS, ...settings }, nodes: [], chosen: {}, text: "", runs: [] };
}

/** Adds a message below `parent` (null for the first) and goes there. */
export function add(conversation, parent, message) {
  const node = { id: randomId(), parent, created: Date.now(), role: "user", content: "", ...message };
  conversation.nodes.push(node);
  conversation.chosen[parent ?? ""] = node.id;
  conversation.updated = node.created;
  return node;
}

/** Messages below `parent`, in the order in which they were made. */
export function children(conversation, parent) {
  return conversation.nodes.filter((node) => node.parent === parent);
}

/** The message of this id. */
export function find(conversation, id) {
  return conversation.nodes.find((node) => node.id === id);
}

/** Messages that are shown: from the first, at each fork the one that was chosen, else the last. */
export function path(conversation) {
  const below = new Map();
  for (const node of conversation.nodes) {
    if (!below.has(node.parent)) below.set(node.parent, []);
    below.get(node.parent).push(node);
  }
  const shown = [];
  let parent = null;
  while (below.has(parent)) {
    const forks = below.get(parent);
    const next = forks.find((node) => node.id === conversation.chosen[parent ?? ""]) ?? forks[forks.length - 1];
    shown.push(next);
    parent = next.id;
  }
  return shown;
}

/** Place of a message among its siblings, from 0, and their number. */
export function fork(conversation, node) {
  const siblings = children(conversation, node.parent);
  return { place: siblings.indexOf(node), siblings };
}

/** Shows the sibling that is `by` places away. */
export function turn(conversation, node, by) {
  const { place, siblings } = fork(conversation, node);
  const next = siblings[place + by];
  if (next) conversation.chosen[node.parent ?? ""] = next.id;
}

/** Messages up to `id` as the chat route takes them. */
export function messages(conversation, id) {
  const list = [];
  if (conversation.settings.system.trim()) list.push({ role: "system", content: conversation.settings.system });
  const chain = [];
  for (let node = find(conversation, id); node; node = find(conversation, node.parent)) chain.unshift(node);
  for (const node of chain) {
    if (node.role === "tool") {
      list.push({ role: "tool", tool_call_id: node.call, content: node.content });
      continue;
    }
    const message = { role: node.role, content: node.content };
    if (node.reasoning) message.reasoning_content = node.reasoning;
    if (node.calls?.length) {
      message.tool_calls = node.calls.map((call) => ({ id: call.id, type: "function", function: { name: call.name, arguments: call.arguments } }));
    }
    list.push(message);
  }
  return list;
}

/** The title of a conversation without one of its own. */
export function titleOf(conversation) {
  if (conversation.title) return conversation.title;
  const first = conversation.kind === "chat" ? (path(conversation)[0]?.content ?? "") : conversation.text;
  const line = first.trim().split("\n")[0].trim();
  const words = { chat: "New chat", completion: "New completion", compare: "New comparison" };
  return line ? (line.length > 60 ? `${line.slice(0, 58)}…` : line) : words[conversation.kind];
}

/** True where a conversation holds these letters. */
export function holds(conversation, letters) {
  const wanted = letters.toLowerCase();
  const texts = [titleOf(conversation), conversation.text, ...conversation.nodes.map((node) => node.content)];
  return texts.some((text) => text.toLowerCase().includes(wanted));
}

/** True where there is nothing to keep. */
export function isEmpty(conversation) {
  return !conversation.nodes.length && !conversation.text && !conversation.runs.length && !conversation.title;
}
