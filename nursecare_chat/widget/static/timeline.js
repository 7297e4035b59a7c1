/** Messages as they are shown: those in the server's log, in its order, and those that are on their way. */
import { ChatError } from "./errors.js";

/**
 * @typedef {object} Message
 * @property {string} key the same from "sending" to "sent", and after a reload
 * @property {number | null} seq
 * @property {number | null} id
 * @property {"text" | "image" | "location"} type
 * @property {string | null} text
 * @property {number | null} lat
 * @property {number | null} lng
 * @property {string | null} media_url
 * @property {number | string | null} sender_id
 * @property {boolean} mine
 * @property {string} created_at while it is unsent, when it was typed
 * @property {string} [clientMessageId]
 * @property {"sent" | "sending" | "failed"} state
 * @property {ChatError} [error] why it failed
 * @property {number} [progress] of a photo's upload, 0 to 1
 * @property {string} [preview] a blob: URL of one's own photo
 */

const EMPTY = { seq: null, id: null, text: null, lat: null, lng: null, media_url: null };

/**
 * @param {import("./client.js").ChatClient} client
 * @param {import("./client.js").WireMessage & {threadId?: number}} wire
 * @param {string} [preview]
 * @returns {Message}
 */
export function fromLog(client, { threadId, ...wire }, preview = undefined) {
  const key = keyOf(wire);
  const mine = client.isMe(wire.sender_id) || wire.clientMessageId !== undefined;
  return { ...EMPTY, ...wire, key, mine, state: "sent", ...(preview && { preview }) };
}

/** Own messages keep the key under which they were sent. @param {{clientMessageId?: string, seq: number}} message */
export function keyOf({ clientMessageId, seq }) {
  return clientMessageId ?? `seq-${seq}`;
}

/**
 * @param {import("./client.js").ChatClient} client
 * @param {import("./outbox.js").Waiting} entry
 * @param {string} [preview]
 * @returns {Message}
 */
export function fromOutbox(client, { key, body, typedAt, state, error, progress }, preview = undefined) {
  return {
    ...EMPTY,
    ...body,
    key,
    clientMessageId: key,
    sender_id: client.user,
    mine: true,
    created_at: new Date(typedAt).toISOString(),
    state,
    ...(error && { error: ChatError.from(error) }),
    ...(progress !== undefined && state === "sending" && { progress }),
    ...(preview && { preview }),
  };
}

export class Timeline {
  /** @type {Message[]} */
  #messages = [];
  #keys = new Set();

  /** @returns {readonly Message[]} by seq, without doubles */
  get messages() {
    return this.#messages;
  }

  /** @param {string} key */
  has(key) {
    return this.#keys.has(key);
  }

  /** A message that is there already is replaced. @param {Message} message */
  put(message) {
    let index = this.#messages.length;
    while (index > 0 && this.#messages[index - 1].seq > message.seq) index--;
    const known = index > 0 && this.#messages[index - 1].seq === message.seq;
    this.#messages.splice(known ? index - 1 : index, known ? 1 : 0, message);
    this.#keys.add(message.key);
  }

  clear() {
    this.#messages = [];
    this.#keys.clear();
  }
}
