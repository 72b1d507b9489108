// The server's routes: requests with the key, streams of events, errors as sentences.

const KEY = "mtplx-key";

/** An error that says what to do. */
export class ApiError extends Error {
  constructor(message, kind, status = 0) {
    super(message);
    this.kind = kind;
    this.status = status;
  }
}

let askForKey = async () => null;
/** Sets the function that asks for a key; it gives null where nobody enters one. */
export function onKeyWanted(ask) {
  askForKey = ask;
}

function headers(extra) {
  // The key stays in this tab, and goes with it.
  const key = sessionStorage.getItem(KEY);
  return { ...extra, ...(key ? { authorization: `Bearer ${key}` } : {}) };
}

async function send(path, options, signal) {
  try {
    return await fetch(path, { ...options, headers: headers(options.headers), signal, credentials: "omit", redirect: "error" });
  } catch (error) {
    if (signal?.aborted) throw new ApiError("Stopped.", "stopped");
    throw new ApiError("The server does not answer. Start it again, then press Retry.", "gone");
  }
}

let asking = null;
/** A request; asks for the key as long as the one that was sent is wrong. */
async function request(path, options = {}, signal) {
  for (;;) {
    const response = await send(path, options, signal);
    if (response.status !== 401) return response;
    const wrong = sessionStorage.getItem(KEY) !== null;
    asking ??= askForKey(wrong).finally(() => (asking = null));
    const key = await asking;
    if (key === null) {
      throw new ApiError("The server wants its key. Press Retry and enter the key that it was started with.", "key", 401);
    }
    sessionStorage.setItem(KEY, key);
  }
}

async function refusal(response) {
  let error = {};
  try {
    error = (await response.json()).error ?? {};
  } catch {
    // No JSON: an answer of something between this page and the server.
  }
  const said = typeof error.message === "string" ? error.message : `The server answered with status ${response.status}.`;
  if (error.code === "context_length_exceeded") {
    return new ApiError(`${sentence(said)} Start a new chat, or edit an earlier message to branch off before it.`, "context", 400);
  }
  const advice = {
    429: "The queue is full. Wait a moment, then press Retry.",
    503: "Wait until the model is loaded, then press Retry.",
    413: "Send a shorter text.",
  }[response.status];
  return new ApiError(advice ? `${sentence(said)} ${advice}` : sentence(said), "refused", response.status);
}

/** A text with a capital letter and a full stop. */
export function sentence(text) {
  const end = /[.!?]$/.test(text) ? "" : ".";
  return text.charAt(0).toUpperCase() + text.slice(1) + end;
}

/** The JSON that a route answers with. */
export async function get(path) {
  const response = await request(path);
  if (!response.ok) throw await refusal(response);
  return response.json();
}

/** True where the server answers; needs no key. */
export async function isThere() {
  try {
    return (await fetch("/health", { credentials: "omit" })).status < 500;
  } catch {
    return false;
  }
}

/** Posts `body`, calls `opened` with the answer's headers and `each` with every event of the stream. Ends when the stream does; throws `ApiError`. */
export async function stream(path, body, opened, each, signal) {
  const options = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const response = await request(path, options, signal);
  if (!response.ok) throw await refusal(response);
  opened(response.headers);
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    let piece;
    try {
      piece = await reader.read();
    } catch {
      if (signal?.aborted) throw new ApiError("Stopped.", "stopped");
      throw new ApiError("The connection broke in the middle of the answer. What came so far is kept; press Retry for a new one.", "broken");
    }
    if (piece.done) break;
    rest += decoder.decode(piece.value, { stream: true });
    const blocks = rest.split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart()).join("\n");
      if (data === "") continue;
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) {
        throw new ApiError(`${sentence(event.error.message ?? "the answer failed")} What came so far is kept; press Retry for a new one.`, "failed");
      }
      each(event);
    }
  }
  if (signal?.aborted) throw new ApiError("Stopped.", "stopped");
  throw new ApiError("The answer ended before its end. What came so far is kept; press Retry for a new one.", "broken");
}
