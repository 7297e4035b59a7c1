/** The chat's HTTP API (contract C17 to C27, C40), and what is built upon it. */
import { Conversation } from "./conversation.js";
import { call } from "./http.js";
import { Inbox } from "./inbox.js";
import { enter } from "./session.js";

/**
 * @typedef {{threadId: number, requestId: number | string, adminId: number | string | null, clientId: number | string,
 *   status: "open" | "closed", openedAt: string, closedAt: string | null, lastSeq: number}} Thread
 * @typedef {{id: number, seq: number, type: "text" | "image" | "location", text: string | null, lat: number | null,
 *   lng: number | null, media_url: string | null, sender_id: number | string, created_at: string,
 *   clientMessageId?: string}} WireMessage
 * @typedef {{mediaPath: string, uploadUrl: string, method: string, headers: Record<string, string>,
 *   expiresAt: string}} IssuedUpload
 */

export class ChatClient {
  /**
   * @param {object} [options]
   * @param {string} [options.base] the path under which the server has the application, without a slash at its end
   * @param {number | string | null} [options.user] who is logged in, as the API shows ids; without it nothing is kept
   *   beyond the page
   * @param {string[]} [options.imageTypes] what the server accepts
   * @param {number} [options.maxImageBytes]
   * @param {number} [options.maxText] characters
   */
  constructor({
    base = "",
    user = null,
    imageTypes = ["image/jpeg", "image/png", "image/webp"],
    maxImageBytes = 10 * 1024 * 1024,
    maxText = 5000,
  } = {}) {
    this.base = base.replace(/\/+$/, "");
    this.user = user === null || user === "" ? null : String(user);
    this.imageTypes = imageTypes;
    this.maxImageBytes = maxImageBytes;
    this.maxText = maxText;
    enter(this);
  }

  /** Whose outbox, read marks and shared streams these are: one user of one application. */
  get owner() {
    return JSON.stringify([this.base, this.user]);
  }

  /** @param {number | string | null} userId */
  isMe(userId) {
    return this.user !== null && isKey(userId, this.user);
  }

  /** @returns {Promise<{threadId: number, status: "open" | "closed"}>} */
  open(requestId) {
    return this.#call("POST", this.url(`requests/${encodeURIComponent(requestId)}/chat/open`, "/api/"));
  }

  /** @returns {Promise<Thread>} */
  thread(id) {
    return this.#call("GET", this.url(`threads/${id}`));
  }

  /**
   * @param {{status?: "open" | "closed", cursor?: string, limit?: number}} [which]
   * @returns {Promise<{threads: Thread[], nextCursor: string | null}>} the newest first
   */
  threads({ status, cursor, limit } = {}) {
    return this.#call("GET", this.url("threads") + query({ status, cursor, limit }));
  }

  /**
   * A page, oldest first: the newest one, the one before `cursor`, or what came `after` a seq.
   * @param {number} id
   * @param {{cursor?: string, limit?: number, after?: number}} [which]
   * @returns {Promise<{messages: WireMessage[], nextCursor?: string | null, nextAfter?: string | null}>}
   */
  history(id, { cursor, limit, after } = {}) {
    return this.#call("GET", this.url(`threads/${id}/messages`) + query({ cursor, limit, after }));
  }

  /** @returns {Promise<{id: number, seq: number, media_url?: string}>} */
  post(id, body, signal) {
    return this.#call("POST", this.url(`threads/${id}/messages`), { body, signal });
  }

  /** @returns {Promise<IssuedUpload>} */
  issueUpload(id, contentType, size, signal) {
    return this.#call("POST", this.url(`threads/${id}/uploads`), { body: { contentType, size }, signal });
  }

  /** @returns {Promise<{status: "closed", closed_at: string}>} */
  close(id) {
    return this.#call("PATCH", this.url(`threads/${id}/close`));
  }

  /** @returns {Promise<object>} C40 */
  receipt(id) {
    return this.#call("GET", this.url(`threads/${id}/receipt`));
  }

  /** @returns {Conversation} */
  conversation(threadId) {
    return new Conversation(this, Number(threadId));
  }

  /** @returns {Inbox} */
  inbox() {
    return new Inbox(this);
  }

  #call(method, url, options = {}) {
    return call(method, url, { ...options, user: this.user });
  }

  url(path, root = "/api/chat/") {
    return this.base + root + path;
  }
}

/**
 * Whether a host's key in an answer is the one that `text` spells. A number beyond 2 ** 53 was rounded when it was read
 * (ECMA-404 says nothing of its size, JSON.parse makes it a double), so the text is, too.
 * @param {number | string | null} key @param {string} text
 */
export function isKey(key, text) {
  return typeof key === "number" ? key === Number(text) : String(key) === text;
}

function query(given) {
  const set = Object.entries(given).filter(([, value]) => value !== undefined && value !== null);
  return set.length ? `?${new URLSearchParams(set)}` : "";
}
