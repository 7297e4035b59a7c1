/**
 * What was typed and is not sent yet: kept across reloads, sent in order, once each.
 *
 * Of all tabs one sends at a time (Web Lock); the server knows a retry by its `clientMessageId` (contract C23), so an
 * answer that was lost makes no double. Everything is erased as soon as it is sent, or the chat is closed.
 */
import { Delivery } from "./delivery.js";
import { ChatError } from "./errors.js";
import { preparePhoto } from "./photos.js";
import { Store } from "./store.js";

const DAYS_KEPT = 7;

/** @typedef {import("./store.js").Entry & {progress?: number, preview?: string}} Waiting */

export class Outbox {
  /** @type {Waiting[]} in the order in which they were typed */
  entries = [];

  #over = new AbortController();
  #waker = new EventTarget();
  #adding = Promise.resolve();
  #unready = new Map(); // photos that are being prepared, or cannot be
  #previews = new Map();
  #channel = null;
  #delivery = null;
  #queued = false;
  #denied = false;
  #erased = false;

  /**
   * @param {import("./client.js").ChatClient} client
   * @param {number} thread
   * @param {object} listener
   * @param {() => void} listener.onchange `entries` are others
   * @param {(entry: Waiting, answer: {id: number, seq: number, media_url?: string}) => void} listener.onsent here or in
   *   another tab
   * @param {(error: ChatError) => void} listener.onrefused nothing more can be sent: closed, or not logged in
   */
  constructor(client, thread, listener) {
    this.client = client;
    this.thread = thread;
    this.listener = listener;
    this.name = `nursecare-chat:outbox:${client.owner}:${thread}`;
    this.durable = client.user !== null;
    this.store = new Store(client.owner, this.durable);
  }

  async start() {
    if (this.durable && typeof BroadcastChannel !== "undefined") {
      this.#channel = new BroadcastChannel(this.name);
      this.#channel.onmessage = ({ data }) => this.#hear(data);
    }
    addEventListener("online", () => this.#send(), { signal: this.#over.signal });
    await this.#read();
    this.#send();
    this.#tidy();
  }

  stop() {
    this.#over.abort();
    this.#delivery?.abort();
    this.#channel?.close();
    this.#channel = null;
    for (const key of [...this.#previews.keys()]) this.release(key);
  }

  /** Its key, at once. @param {object} body @param {File | Blob} [file] a photo */
  add(body, file = undefined) {
    const entry = {
      key: newKey(),
      owner: this.client.owner,
      thread: this.thread,
      order: Math.max(Date.now(), (this.entries.at(-1)?.order ?? 0) + 1),
      typedAt: Date.now(),
      body,
      state: "sending",
    };
    if (this.#erased) return entry.key;
    if (file) this.#previews.set(entry.key, URL.createObjectURL(file));
    this.#unready.set(entry.key, entry);
    this.#show([...this.entries, entry]);
    this.#adding = this.#adding.then(() => this.#keep(entry, file));
    return entry.key;
  }

  async retry(key) {
    const entry = this.entries.find((one) => one.key === key);
    if (entry?.state !== "failed" || this.#unready.has(key)) return;
    const order = Math.max(Date.now(), this.entries.at(-1).order + 1);
    await this.store.update({ ...plain(entry), order, state: "sending", error: undefined });
    await this.#changed();
    this.#send();
  }

  async cancel(key) {
    this.#unready.delete(key);
    this.#show(this.entries.filter((entry) => entry.key !== key));
    this.release(key);
    await this.store.remove(key);
    this.#abort(key);
    this.#channel?.postMessage({ cancelled: key });
  }

  /** The chat is closed: nothing of it stays in this browser. */
  async erase() {
    this.#erased = true;
    this.#over.abort();
    this.#delivery?.abort();
    this.#unready.clear();
    this.#show([]);
    for (const key of [...this.#previews.keys()]) this.release(key);
    const entries = await this.store.all(this.thread);
    await Promise.all(entries.map(({ key }) => this.store.remove(key)));
  }

  /** Nothing more is sent, and nothing lost. */
  pause() {
    this.#denied = true;
    this.#delivery?.abort();
  }

  /** The server is there again, and knows us. */
  resume() {
    this.#denied = false;
    this.#send();
  }

  preview(key) {
    return this.#previews.get(key);
  }

  release(key) {
    if (this.#previews.has(key)) URL.revokeObjectURL(this.#previews.get(key));
    this.#previews.delete(key);
  }

  async #keep(entry, file) {
    if (!this.#unready.has(entry.key)) return; // cancelled
    try {
      if (file) entry.photo = await preparePhoto(file, this.client);
    } catch (error) {
      const known = error instanceof ChatError ? error : new ChatError("photo_unreadable"); // what waits behind it goes on
      const failed = { ...entry, state: "failed", error: known.toJSON() };
      this.#show(this.entries.map((one) => (one.key === entry.key ? failed : one)));
      return;
    }
    if (!this.#unready.has(entry.key)) return;
    await this.store.put(entry);
    this.#unready.delete(entry.key);
    await this.#changed();
    this.#send();
  }

  async #changed() {
    this.#channel?.postMessage({ changed: true });
    await this.#read();
  }

  async #read() {
    const kept = await this.store.all(this.thread);
    if (this.#over.signal.aborted) return;
    const unready = this.entries.filter(({ key }) => this.#unready.has(key) && !kept.some((entry) => entry.key === key));
    this.#show([...kept.map((entry) => this.#dressed(entry)), ...unready].sort((a, b) => a.order - b.order));
  }

  #dressed(entry) {
    if (entry.photo && !this.#previews.has(entry.key)) {
      this.#previews.set(entry.key, URL.createObjectURL(entry.photo));
    }
    const { progress } = this.entries.find(({ key }) => key === entry.key) ?? {};
    return progress === undefined ? entry : { ...entry, progress };
  }

  #show(entries) {
    this.entries = entries;
    this.listener.onchange();
  }

  #hear({ changed, cancelled, sent, answer }) {
    if (sent) this.listener.onsent(sent, answer);
    if (cancelled) this.#abort(cancelled);
    this.#read();
    if (changed) this.#send();
  }

  #abort(key) {
    if (this.#delivery?.entry.key === key) this.#delivery.abort();
  }

  // Asks for the lock while there is something to send; it may wait there behind another tab that is sending.
  async #send() {
    this.#waker.dispatchEvent(new Event("wake"));
    if (this.#queued || this.#denied || !this.entries.some(({ state }) => state === "sending")) return;
    this.#queued = true;
    try {
      await alone(this.name, this.durable, this.#over.signal, () => this.#drain());
    } finally {
      this.#queued = false;
    }
    await this.#read();
    if (!this.#over.signal.aborted && this.entries.some((one) => one.state === "sending" && !this.#unready.has(one.key))) {
      this.#send();
    }
  }

  async #drain() {
    while (!this.#over.signal.aborted && !this.#denied) {
      const entry = (await this.store.all(this.thread)).find(({ state }) => state === "sending");
      if (!entry) return;
      await this.#deliver(entry);
    }
  }

  async #deliver(entry) {
    const delivery = new Delivery(this.client, this.store, entry, this.#waker);
    delivery.onprogress = (progress) => {
      this.#show(this.entries.map((one) => (one.key === entry.key ? { ...one, progress } : one)));
    };
    this.#delivery = delivery;
    try {
      const answer = await delivery.run();
      await this.store.remove(entry.key);
      this.listener.onsent(entry, answer);
      this.#channel?.postMessage({ sent: { ...entry, photo: undefined }, answer });
    } catch (error) {
      if (!(error instanceof ChatError)) throw error;
      if (delivery.aborted) return;
      if (error.code === "thread_closed" || error.status === 401 || error.status === 501) {
        this.#denied = true;
        this.listener.onrefused(error);
        return;
      }
      await this.store.update({ ...plain(entry), state: "failed", error: error.toJSON() });
      this.#channel?.postMessage({ changed: true });
    } finally {
      this.#delivery = null;
    }
    await this.#read();
  }

  // What waits for a chat that was closed meanwhile, or since long ago, is erased, though nobody opens it any more.
  async #tidy() {
    const others = (await this.store.everything()).filter(({ thread }) => thread !== this.thread);
    for (const thread of new Set(others.map((entry) => entry.thread))) {
      const gone = await this.client.thread(thread).then(({ status }) => status === "closed", (error) => error.status === 404);
      const old = Date.now() - DAYS_KEPT * 86_400_000;
      for (const entry of others) {
        if (entry.thread === thread && (gone || entry.typedAt < old)) await this.store.remove(entry.key);
      }
    }
  }
}

function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {Waiting} waiting @returns {import("./store.js").Entry} */
function plain({ progress, ...entry }) {
  return entry;
}

// One at a time: of all tabs where there are locks, else of this page.
async function alone(name, durable, signal, work) {
  if (!durable || !navigator.locks) return work();
  await navigator.locks.request(name, { signal }, work).catch((error) => {
    if (!signal.aborted) throw error;
  });
}
