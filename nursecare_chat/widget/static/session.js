/**
 * Who is logged in in this browser, as far as its pages know: the one whose page came last.
 *
 * A tab may be left over from somebody else. What was typed there must never be sent under the name of who came after.
 */
import { ChatError } from "./errors.js";

/** @typedef {import("./client.js").ChatClient} ChatClient */

const PREFIX = "nursecare-chat:user:";

/** @param {ChatClient} client */
export function enter(client) {
  if (client.user === null) return;
  try {
    localStorage.setItem(PREFIX + client.base, client.user);
  } catch {
    // refused by the browser's settings: then tabs know nothing of each other
  }
}

/** @param {ChatClient} client @throws {ChatError} if somebody else's page came later */
export function requireSame(client) {
  let last = null;
  try {
    last = localStorage.getItem(PREFIX + client.base);
  } catch {
    // as above
  }
  if (client.user !== null && last !== null && last !== client.user) throw replaced();
}

/**
 * @param {ChatClient} client
 * @param {(error: ChatError) => void} listener called when somebody else's page comes
 * @param {AbortSignal} signal ends that
 */
export function watchSession(client, listener, signal) {
  const hear = ({ key, newValue }) => {
    if (key === PREFIX + client.base && newValue !== null && newValue !== client.user) listener(replaced());
  };
  if (client.user !== null) addEventListener("storage", hear, { signal });
}

function replaced() {
  return new ChatError("unauthenticated", { status: 401, message: "Somebody else is logged in by now." });
}
