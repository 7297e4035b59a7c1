/** One thread as somebody sees it: what is there, what comes, what is on its way, and the end. */
import { ChatError } from "./errors.js";
import { Feed } from "./feed.js";
import { forgetReadMark, readMark, setReadMark, watchReadMarks } from "./marks.js";
import { Outbox } from "./outbox.js";
import { backoff, pause } from "./pauses.js";
import { watchSession } from "./session.js";
import { fromLog, fromOutbox, keyOf, Timeline } from "./timeline.js";

const PAGE = 50;
const RECEIPT_PAUSE = 60_000; // milliseconds, the longest between two questions whether all is erased

/** @typedef {import("./timeline.js").Message} Message */

/**
 * Events: `messages`, `connection`, `thread`, `received` (detail: a message of somebody else's that came live), `read`,
 * `receipt`. A message is replaced, never changed.
 */
export class Conversation extends EventTarget {
  /** @type {import("./client.js").Thread | null} */
  thread = null;
  /** @type {readonly Message[]} */
  messages = [];
  /** @type {"connecting" | "live" | "reconnecting" | "offline" | "closed" | "denied"} */
  connection = "connecting";
  /** @type {ChatError | null} why it is denied */
  error = null;
  hasOlder = false;
  /** @type {string | null} */
  closedAt = null;
  receipt = null;

  #over = new AbortController();
  #timeline = new Timeline();
  #cursor = null;
  #stale = false;
  #asking = false;

  /** @param {import("./client.js").ChatClient} client @param {number} threadId */
  constructor(client, threadId) {
    super();
    this.client = client;
    this.threadId = threadId;
    this.feed = new Feed(client, threadId, {
      onmessage: (message) => this.#receive(message),
      onclosed: (closedAt) => this.#finish(closedAt),
      onreset: () => this.#reload(),
      onstate: (state, error) => this.#connect(state, error),
    });
    this.outbox = new Outbox(client, threadId, {
      onchange: () => this.#change(),
      onsent: (entry, answer) => this.#sent(entry, answer),
      onrefused: (error) => this.#refused(error),
    });
  }

  get lastRead() {
    return readMark(this.client, this.threadId);
  }

  /** How many messages of others are known that were not read. */
  get unread() {
    const { lastRead } = this;
    return this.#timeline.messages.filter(({ mine, seq }) => !mine && seq > lastRead).length;
  }

  /** Resolves when the first page is there, or it is clear that none comes; never rejects. */
  async start() {
    watchSession(this.client, (error) => this.#replaced(error), this.#over.signal);
    watchReadMarks(this.client, (thread) => thread === this.threadId && this.#say("read"), this.#over.signal);
    this.feed.listen();
    this.outbox.start();
    await this.#insist(async () => {
      const thread = await this.client.thread(this.threadId);
      this.#hear(thread);
      if (thread.status === "closed") return this.#finish(thread.closedAt);
      const lastSeq = await this.#firstPage();
      if (!this.#done) this.feed.begin(lastSeq);
    });
  }

  stop() {
    this.#over.abort();
    this.feed.stop();
    this.outbox.stop();
  }

  /** @throws {ChatError} */
  async loadOlder() {
    if (!this.#cursor) return;
    const cursor = this.#cursor;
    const page = await this.client.history(this.threadId, { cursor, limit: PAGE });
    if (cursor === this.#cursor) this.#put(page); // else begun anew meanwhile, or asked for twice
  }

  sendText(text) {
    return this.outbox.add({ type: "text", text });
  }

  sendLocation({ lat, lng }) {
    return this.outbox.add({ type: "location", lat, lng });
  }

  /** @param {File | Blob} file */
  sendPhoto(file) {
    return this.outbox.add({ type: "image" }, file);
  }

  retry(key) {
    return this.outbox.retry(key);
  }

  cancel(key) {
    return this.outbox.cancel(key);
  }

  /** @throws {ChatError} */
  async closeThread() {
    const { closed_at } = await this.client.close(this.threadId);
    this.feed.close(closed_at);
    this.#finish(closed_at);
  }

  /** A signed address lives for minutes. @param {Message} message @returns {Promise<string | null>} */
  async refreshMedia({ seq, key }) {
    if (seq === null) return null;
    const page = await this.client.history(this.threadId, { after: seq - 1, limit: 1 }).catch(() => null);
    const fresh = page?.messages.find((message) => message.seq === seq);
    if (!fresh || this.#done || !this.#timeline.has(key)) return null;
    this.#timeline.put(this.#shown(fresh));
    this.#change();
    return fresh.media_url;
  }

  markRead(seq) {
    if (!this.#done) setReadMark(this.client, this.threadId, seq);
  }

  // What is on its way waits until its author is back.
  #replaced(error) {
    this.#connect("denied", error);
    this.outbox.pause();
    this.feed.stop();
  }

  get #done() {
    return this.closedAt !== null || this.#over.signal.aborted;
  }

  // -- what comes -----------------------------------------------------------------------------------------------------

  // Gives where the stream goes on from: what this tab has sent meanwhile may be later, with others' before it.
  async #firstPage() {
    const page = await this.client.history(this.threadId, { limit: PAGE });
    this.#put(page);
    return page.messages.at(-1)?.seq ?? 0;
  }

  /** @param {{messages: import("./client.js").WireMessage[], nextCursor?: string | null}} page */
  #put({ messages, nextCursor = null }) {
    if (this.#done) return;
    for (const message of messages) this.#timeline.put(this.#shown(message));
    this.#cursor = nextCursor;
    this.hasOlder = nextCursor !== null;
    this.#change();
  }

  #reload() {
    this.#timeline.clear();
    this.#cursor = null;
    this.hasOlder = false;
    this.#change();
    this.#insist(() => this.#firstPage());
  }

  #receive(wire) {
    const message = this.#shown(wire);
    this.#timeline.put(message);
    this.#change();
    if (!message.mine) queueMicrotask(() => this.#say("received", message)); // once it is among `messages`
    this.#claim(message);
  }

  // The first admin who posts claims the thread (C17), and no event says so.
  #claim({ sender_id }) {
    if (this.#asking || this.thread?.adminId !== null || String(sender_id) === String(this.thread.clientId)) return;
    this.#asking = true;
    const answered = (thread = this.thread) => {
      this.#asking = false;
      this.#hear(thread);
    };
    this.client.thread(this.threadId).then(answered, () => answered());
  }

  #shown(wire) {
    return fromLog(this.client, wire, this.outbox.preview(keyOf(wire)));
  }

  #hear(thread) {
    if (this.#over.signal.aborted) return;
    this.thread = thread;
    this.#say("thread");
  }

  #connect(state, error = null) {
    if (this.#done || (this.connection === "denied" && state !== "live")) return;
    this.connection = state;
    this.error = error;
    if (state === "live") this.outbox.resume();
    this.#say("connection");
  }

  // -- what goes ------------------------------------------------------------------------------------------------------

  #sent(entry, answer) {
    if (this.#done) return;
    const own = { clientMessageId: entry.key, sender_id: this.client.user, created_at: new Date().toISOString() };
    if (!this.#timeline.has(entry.key)) this.#timeline.put(this.#shown({ ...entry.body, ...own, ...answer }));
    this.#change();
    this.feed.expect(answer.seq);
    this.#claim(own);
  }

  #refused(error) {
    if (error.code !== "thread_closed") return this.#connect("denied", error);
    this.#insist(async () => {
      const { closedAt } = await this.client.thread(this.threadId);
      this.feed.close(closedAt);
      this.#finish(closedAt);
    });
  }

  // -- the end --------------------------------------------------------------------------------------------------------

  #finish(closedAt) {
    if (this.#done) return;
    this.closedAt = closedAt;
    this.connection = "closed";
    this.hasOlder = false;
    this.#timeline.clear();
    this.outbox.erase();
    this.feed.stop();
    forgetReadMark(this.client, this.threadId);
    if (this.thread) this.#hear({ ...this.thread, status: "closed", closedAt });
    this.#say("connection");
    this.#change();
    this.#follow();
  }

  async #follow() {
    const { signal } = this.#over;
    for (let wait = 1000; !signal.aborted; wait = Math.min(wait * 2, RECEIPT_PAUSE)) {
      try {
        this.receipt = await this.client.receipt(this.threadId);
        this.#say("receipt");
        if (this.receipt.purgedAt) return;
      } catch (error) {
        if (error.denies) return;
      }
      await pause(wait, signal);
    }
  }

  // -- how it is told -------------------------------------------------------------------------------------------------

  // Until it succeeds, or a refusal says that nothing will.
  async #insist(step) {
    for (let attempt = 0; !this.#done; ) {
      try {
        return await step();
      } catch (error) {
        if (!(error instanceof ChatError)) throw error;
        if (error.denies) return this.#connect("denied", error);
        this.#connect(navigator.onLine ? "reconnecting" : "offline");
        await pause(Math.max(backoff(attempt++), error.retryAfter * 1000), this.#over.signal);
      }
    }
  }

  #change() {
    if (this.#stale) return;
    this.#stale = true;
    queueMicrotask(() => {
      this.#stale = false;
      const there = this.#timeline.messages;
      const waiting = this.outbox.entries.filter(({ key }) => !this.#timeline.has(key));
      const shown = waiting.map((entry) => fromOutbox(this.client, entry, this.outbox.preview(entry.key)));
      this.messages = [...there, ...shown];
      this.#say("messages");
    });
  }

  #say(type, detail = undefined) {
    if (!this.#over.signal.aborted) this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
