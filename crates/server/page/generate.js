// One answer: a request's body out of settings, and the stream's events gathered into a text with its tokens and figures.

import { stream } from "./api.js";
import { Meter } from "./meter.js";

const SAMPLING = ["temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "max_tokens"];

/** Fields of a request that come from settings; what is empty is left to the model. */
export function fields(settings) {
  const body = { stream: true, stream_options: { include_usage: true }, mtp: { enabled: settings.mtp, origins: true } };
  for (const name of SAMPLING) if (settings[name] !== null) body[name] = settings[name];
  if (settings.mtp && settings.depth !== null) body.mtp.depth = settings.depth;
  return body;
}

/** The same for a chat. Throws where the tools are no list in JSON. */
export function chatFields(settings) {
  const body = fields(settings);
  if (settings.thinking !== null) body.chat_template_kwargs = { enable_thinking: settings.thinking };
  if (settings.tools.trim()) body.tools = toolList(settings.tools);
  return body;
}

/** Tools in the form of OpenAI's chat route. Throws an error with a sentence. */
export function toolList(text) {
  let list;
  try {
    list = JSON.parse(text);
  } catch (error) {
    throw new Error(`Tools: no JSON (${error.message}). Correct them in the settings.`);
  }
  if (!Array.isArray(list)) throw new Error("Tools: expected a list in square brackets. Correct them in the settings.");
  return list;
}

/** An answer that has not begun. */
export function emptyAnswer() {
  return { content: "", reasoning: "", calls: [], tokens: [], figures: null, finish: null, error: null, remark: null };
}

/** Tokens with the text that they gave: a character may need several tokens, and a stop string holds text back. */
function segments(text, tokens) {
  if (text === "") return [];
  if (!tokens.length) return [{ text, origin: "plain" }];
  const short = ({ text: own, origin, depth }) => ({ text: own, origin, ...(depth ? { depth } : {}) });
  if (tokens.map((token) => token.text).join("") === text) return tokens.map(short);
  return [{ ...short(tokens[tokens.length - 1]), text }];
}

function takeCall(calls, delta) {
  const call = (calls[delta.index] ??= { id: "", name: "", arguments: "" });
  if (delta.id) call.id = delta.id;
  if (delta.function?.name) call.name += delta.function.name;
  if (delta.function?.arguments) call.arguments += delta.function.arguments;
}

/** Streams an answer into `answer`, and calls `changed` with each piece. Errors end up in `answer.error`; nothing is thrown. */
export async function generate(path, body, answer, changed, signal) {
  const meter = new Meter();
  answer.figures = meter.figures();
  const opened = (headers) => {
    const tokens = Number(headers.get("x-mtplx-prompt-tokens"));
    if (tokens > 0) meter.prompt = tokens;
    answer.remark = headers.get("x-mtplx-warning");
    answer.figures = meter.figures();
    changed();
  };
  const each = (event) => {
    const tokens = event.mtp?.tokens ?? [];
    meter.take(tokens);
    const choice = event.choices?.[0];
    const text = choice?.delta?.content ?? choice?.text ?? "";
    answer.content += text;
    answer.tokens.push(...segments(text, tokens));
    answer.reasoning += choice?.delta?.reasoning_content ?? "";
    for (const delta of choice?.delta?.tool_calls ?? []) takeCall(answer.calls, delta);
    if (choice?.finish_reason) answer.finish = choice.finish_reason;
    answer.figures = event.timings ?? (answer.finish ? answer.figures : meter.figures());
    changed();
  };
  // A clock that goes on while the prompt is read.
  const clock = setInterval(() => {
    if (meter.tokens === 0) {
      answer.figures = meter.figures();
      changed();
    }
  }, 200);
  try {
    await stream(path, body, opened, each, signal);
  } catch (error) {
    if (error.kind === "stopped") answer.finish = "stopped";
    else if (error.name === "ApiError" || error.kind) answer.error = error.message;
    else {
      console.error(error);
      answer.error = `The answer could not be read (${error.message}). Press Retry for a new one.`;
    }
  } finally {
    clearInterval(clock);
    changed();
  }
}
