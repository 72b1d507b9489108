// The history, in this browser's IndexedDB; where that is not to be had, in memory until the page is closed.

const NAME = "mtplx";
const TABLE = "conversations";

let database = null;
let memory = null;
/** Over once the history is open, in whichever place. */
let ready = null;

function promise(request) {
  return new Promise((done, failed) => {
    request.onsuccess = () => done(request.result);
    request.onerror = () => failed(request.error);
  });
}

/** Opens the history. False where it will not outlive the page. */
export function open() {
  ready ??= opened();
  return ready;
}

async function opened() {
  try {
    const opening = indexedDB.open(NAME, 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(TABLE, { keyPath: "id" });
    database = await promise(opening);
    return true;
  } catch {
    memory = new Map();
    return false;
  }
}

function table(mode) {
  return database.transaction(TABLE, mode).objectStore(TABLE);
}

/** All conversations. */
export async function all() {
  await open();
  return memory ? [...memory.values()] : promise(table("readonly").getAll());
}

/** Keeps a conversation in place of the one with its id. */
export async function put(conversation) {
  await open();
  if (memory) memory.set(conversation.id, conversation);
  else await promise(table("readwrite").put(structuredClone(conversation)));
}

/** Keeps several at once, or none of them. */
export async function putAll(conversations) {
  await open();
  if (memory) {
    for (const conversation of conversations) memory.set(conversation.id, conversation);
    return;
  }
  const transaction = database.transaction(TABLE, "readwrite");
  for (const conversation of conversations) transaction.objectStore(TABLE).put(conversation);
  await new Promise((done, failed) => {
    transaction.oncomplete = done;
    transaction.onerror = transaction.onabort = () => failed(transaction.error);
  });
}

/** Drops a conversation. */
export async function remove(id) {
  await open();
  if (memory) memory.delete(id);
  else await promise(table("readwrite").delete(id));
}

/** A small value that is kept beside the history, such as the theme. */
export function preference(name, fallback) {
  try {
    return JSON.parse(localStorage.getItem(`mtplx-${name}`)) ?? fallback;
  } catch {
    return fallback;
  }
}

/** Keeps such a value. */
export function setPreference(name, value) {
  try {
    localStorage.setItem(`mtplx-${name}`, JSON.stringify(value));
  } catch {
    // Storage is full or forbidden: the value holds until the page is closed.
  }
}
