/** Up to where each chat was read, kept per browser and user, and shared by its tabs and elements. */

const unkept = new Map(); // where the browser keeps nothing
const MOVED = "nursecare-chat-read"; // on the window: a page may have this module twice, under two addresses

/** @typedef {import("./client.js").ChatClient} ChatClient */

/** @param {ChatClient} client */
function prefix(client) {
  return `nursecare-chat:read:${client.owner}:`;
}

/** The last `seq` that was read; 0 for none. @param {ChatClient} client @param {number} thread */
export function readMark(client, thread) {
  const key = prefix(client) + thread;
  return Number(unkept.get(key) ?? stored((storage) => storage.getItem(key))) || 0;
}

/** Marks only ever advance. @param {ChatClient} client @param {number} thread @param {number} seq */
export function setReadMark(client, thread, seq) {
  if (seq <= readMark(client, thread)) return;
  const key = prefix(client) + thread;
  unkept.set(key, seq);
  if (client.user !== null && stored((storage) => (storage.setItem(key, String(seq)), true))) unkept.delete(key);
  dispatchEvent(new CustomEvent(MOVED, { detail: key }));
}

/** The chat is erased, so is this. @param {ChatClient} client @param {number} thread */
export function forgetReadMark(client, thread) {
  const key = prefix(client) + thread;
  unkept.delete(key);
  stored((storage) => storage.removeItem(key));
}

/**
 * @param {ChatClient} client
 * @param {(thread: number) => void} listener called whenever a mark of this user, here or in another tab, has moved
 * @param {AbortSignal} signal ends that
 */
export function watchReadMarks(client, listener, signal) {
  const start = prefix(client);
  const hear = (key) => key?.startsWith(start) && listener(Number(key.slice(start.length)));
  addEventListener(MOVED, (/** @type {CustomEvent<string>} */ { detail }) => hear(detail), { signal });
  addEventListener("storage", ({ key }) => hear(key), { signal });
}

function stored(use) {
  try {
    return use(localStorage);
  } catch {
    return null; // refused by the browser's settings, or full
  }
}
