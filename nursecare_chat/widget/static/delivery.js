/** One entry of the outbox on its way: tried until it is accepted, or refused for good. */
import { ChatError } from "./errors.js";
import { backoff, pause } from "./pauses.js";
import { put } from "./upload.js";

const TRIES = 5; // of what the server answers 500, or a storage nothing: it may be this very message that is not taken
const ADDRESSES = 3; // that one photo may use up in a row

export class Delivery {
  /** @type {(part: number) => void} */
  onprogress = () => {};
  #stop = new AbortController();
  #unanswered = 0; // uploads in a row

  /**
   * @param {import("./client.js").ChatClient} client
   * @param {import("./store.js").Store} store
   * @param {import("./store.js").Entry} entry
   * @param {EventTarget} waker "wake" there ends a pause between tries
   */
  constructor(client, store, entry, waker) {
    this.client = client;
    this.store = store;
    this.entry = entry;
    this.waker = waker;
  }

  get aborted() {
    return this.#stop.signal.aborted;
  }

  /** What is under way is broken off; the entry is as it was. */
  abort() {
    this.#stop.abort();
  }

  /**
   * @returns {Promise<{id: number, seq: number, media_url?: string}>}
   * @throws {ChatError} a refusal that is final; anything, once aborted
   */
  async run() {
    const { signal } = this.#stop;
    let failures = 0;
    for (let attempt = 0; ; attempt++) {
      try {
        if (signal.aborted) throw new ChatError("network");
        return await (this.entry.photo ? this.#sendPhoto() : this.#post(this.entry.body));
      } catch (error) {
        if (error.status === 500) failures++;
        if (signal.aborted || isFinal(error) || failures === TRIES) throw error;
        await pause(Math.max(backoff(attempt), error.retryAfter * 1000), signal, error.retryAfter ? undefined : this.waker);
      }
    }
  }

  #post(body) {
    const { key, thread } = this.entry;
    return this.client.post(thread, { ...body, clientMessageId: key }, this.#stop.signal);
  }

  async #sendPhoto() {
    const { entry } = this;
    for (let used = 1; ; used++) {
      const early = entry.uploaded; // before a reload, perhaps, and its address has expired
      try {
        if (!early) await this.#upload();
        return await this.#post({ ...entry.body, mediaPath: entry.issued.mediaPath });
      } catch (error) {
        const expired = error.status === 403 && error.code === "bad_signature";
        const missing = early && error.status === 422 && "mediaPath" in error.errors;
        if (!(expired || missing) || used === ADDRESSES) throw error;
        Object.assign(entry, { issued: undefined, uploaded: false });
      }
    }
  }

  async #upload() {
    const { entry } = this;
    const { signal } = this.#stop;
    const { type, size } = entry.photo;
    const bytes = await entry.photo.arrayBuffer().catch(() => {
      throw new ChatError("photo_unreadable"); // the browser has thrown it away
    });
    if (!entry.issued) {
      entry.issued = await this.client.issueUpload(entry.thread, type, size, signal);
      await this.store.update(entry);
    }
    await put(entry.issued, bytes, { signal, onprogress: this.onprogress }).catch((error) => this.#blame(error));
    entry.uploaded = true;
    await this.store.update(entry);
  }

  // Without an answer the network may be gone, and all else waits too. Where only the storage is, as with a policy of the
  // page or the account that forbids it, nothing that was typed later need wait.
  async #blame(error) {
    if (error.status !== 0 || this.aborted || ++this.#unanswered < TRIES) throw error;
    this.#unanswered = 0;
    await this.client.thread(this.entry.thread);
    throw new ChatError("photo_storage_away");
  }
}

// An answer that says no will say no again, unless it was about the moment.
function isFinal({ status, code }) {
  if (code === "too_many_uploads") return true; // room comes in minutes, and what was typed behind it need not wait
  if (code.startsWith("photo_")) return true;
  return status === 501 || (status >= 400 && status < 500 && ![408, 425, 429].includes(status));
}
