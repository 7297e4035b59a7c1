/**
 * Who is logged in in this browser, as far as its pages know: the one whose page came last.
 *
 * A tab may be left over from somebody else. The server refuses what it sends; this tells it at once, so that it shows
 * nothing more either.
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

/**
 * @param {ChatClient} client
 * @param {(error: ChatError) => void} listener called when somebody else's page comes
 * @param {AbortSignal} signal ends that
 */
export function watchSession(client, listener, signal) {
  const hear = ({ key, newValue }) => {
    if (key !== PREFIX + client.base || newValue === null || newValue === client.user) return;
    listener(new ChatError("unauthenticated", { status: 401, message: "Somebody else is logged in by now." }));
  };
  if (client.user !== null) addEventListener("storage", hear, { signal });
}
