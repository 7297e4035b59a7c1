/** The list of open chats as it changes, through one stream for all of them (contract C27, C46). */
import { ChatError } from "./errors.js";
import { forgetReadMark, readMark, setReadMark, watchReadMarks } from "./marks.js";
import { backoff, pause } from "./pauses.js";
import { watchSession } from "./session.js";
import { SharedStream } from "./sharing.js";
import { Summaries } from "./summaries.js";

const PAGE = 50;
const AFRESH = 120_000; // milliseconds after which the whole list is looked at again, whatever the stream says

/**
 * @typedef {import("./client.js").Thread & {unclaimed: boolean, unread: number, lastActivityAt: string,
 *   lastMessageId: number, preview: {type: string, text: string | null, mine: boolean} | null}} InboxThread
 */

/**
 * Events: `threads`, `connection`, `arrived` (detail: a message of somebody else's that came live, with its `threadId`).
 * A thread is replaced, never changed.
 */
export class Inbox extends EventTarget {
  /** @type {InboxThread[]} the unclaimed ones first, then by latest activity */
  threads = [];
  /** @type {import("./stream.js").State} */
  connection = "connecting";
  /** @type {ChatError | null} why it is denied */
  error = null;
  hasMore = false;

  #over = new AbortController();
  /** @type {Map<number, import("./client.js").Thread>} */
  #open = new Map();
  #heard = new Map(); // the last seq of each chat that the stream has brought
  #gone = new Set(); // since the list was asked for
  #asked = new Map(); // those that are asked for one by one → whether to ask once more
  #cursor = null;
  #position = null;
  #turn = Promise.resolve();
  #loading = false;
  #again = false;
  #stale = false;

  /** @param {import("./client.js").ChatClient} client */
  constructor(client) {
    super();
    this.client = client;
    this.summaries = new Summaries(client, () => this.#change());
    this.shared = new SharedStream(`${client.owner}:inbox`, {
      url: client.url("stream"),
      events: ["ThreadOpened", "MessageCreated", "ThreadClosed", "ThreadLeft", "reset"],
      position: () => this.#position,
      onframe: (frame) => this.#take(frame),
      onstate: (state, error) => this.#connect(state, error),
      check: () => client.threads({ limit: 1 }),
    });
  }

  /** Resolves when the list is there, or it is clear that none comes; never rejects. */
  async start() {
    const { signal } = this.#over;
    watchSession(this.client, (error) => this.#replaced(error), signal);
    watchReadMarks(this.client, () => this.#change(), signal);
    const look = setInterval(() => document.visibilityState === "visible" && this.#load(), AFRESH);
    signal.addEventListener("abort", () => clearInterval(look));
    this.shared.listen();
    this.shared.begin();
    await this.#load();
  }

  stop() {
    this.#over.abort();
    this.summaries.stop();
    this.shared.stop();
  }

  markRead(threadId, seq) {
    setReadMark(this.client, threadId, seq);
  }

  /** @throws {ChatError} */
  async loadMore() {
    await this.#inTurn(() => this.hasMore && this.#page(this.#cursor));
  }

  // -- the list -------------------------------------------------------------------------------------------------------

  // As far as it was shown; once more if asked for meanwhile.
  async #load() {
    this.#again = this.#loading;
    if (this.#loading) return;
    this.#loading = true;
    for (let attempt = 0; !this.#over.signal.aborted; ) {
      try {
        await this.#inTurn(() => this.#whole());
        if (!this.#again) break;
        this.#again = false;
      } catch (error) {
        if (!(error instanceof ChatError)) throw error;
        if (error.denies) {
          this.#connect("denied", error);
          break;
        }
        this.#connect(navigator.onLine ? "reconnecting" : "offline");
        await pause(Math.max(backoff(attempt++), error.retryAfter * 1000), this.#over.signal);
      }
    }
    this.#loading = false;
  }

  // Two who ask at once would each leave their own place in the list.
  #inTurn(work) {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => {});
    return done;
  }

  async #whole() {
    this.#gone.clear();
    const end = this.#cursor === null ? 0 : Number(this.#cursor); // of what was paged through: less for what came by itself
    const shown = [...this.#open.keys()].filter((id) => id >= end).length;
    const before = new Set(this.#open.keys());
    const found = new Set();
    let cursor;
    do {
      cursor = await this.#page(cursor, found);
    } while (cursor !== null && found.size < shown);
    for (const id of before) {
      if (found.has(id)) continue;
      if (cursor !== null && id < Number(cursor)) this.#look(id); // on a later page: it is shown for what came in it
      else this.#open.delete(id);
    }
    this.#change();
  }

  async #page(cursor, found = new Set()) {
    const { threads, nextCursor } = await this.client.threads({ status: "open", limit: PAGE, cursor });
    for (const thread of threads.filter(({ threadId }) => !this.#gone.has(threadId))) {
      found.add(thread.threadId);
      this.#put(thread);
    }
    this.#cursor = nextCursor;
    this.hasMore = nextCursor !== null;
    this.#change();
    return nextCursor;
  }

  #put(thread) {
    if (thread.status !== "open") return this.#remove(thread.threadId);
    const lastSeq = Math.max(thread.lastSeq, this.#open.get(thread.threadId)?.lastSeq ?? 0);
    this.#open.set(thread.threadId, { ...thread, lastSeq });
    this.#gone.delete(thread.threadId);
    this.summaries.want(thread.threadId, lastSeq);
    this.#change();
  }

  #remove(id) {
    this.#open.delete(id);
    this.#gone.add(id);
    this.summaries.forget(id);
    this.#change();
  }

  // -- what comes -----------------------------------------------------------------------------------------------------

  #take({ event, id, data }) {
    if (this.#over.signal.aborted) return;
    if (id !== "") this.#position = id;
    if (event === "reset") {
      this.#load();
    } else if (event === "ThreadOpened") {
      this.#put(data);
    } else if (event === "MessageCreated") {
      this.#receive(data);
    } else {
      if (event === "ThreadClosed") forgetReadMark(this.client, data.threadId);
      this.#remove(data.threadId);
    }
  }

  #receive(message) {
    const { threadId, seq } = message;
    if (seq <= (this.#heard.get(threadId) ?? 0)) return; // a repetition
    this.#heard.set(threadId, seq);
    const thread = this.#open.get(threadId);
    this.summaries.add(threadId, message);
    if (!thread) {
      this.#look(threadId);
    } else {
      this.#open.set(threadId, { ...thread, lastSeq: Math.max(seq, thread.lastSeq) });
      const claims = thread.adminId === null && String(message.sender_id) !== String(thread.clientId);
      if (claims) this.#look(threadId);
    }
    this.#change();
    const mine = this.client.isMe(message.sender_id);
    if (!mine) queueMicrotask(() => this.#say("arrived", message)); // once it counts in `threads`
  }

  #replaced(error) {
    this.#connect("denied", error);
    this.shared.stop();
  }

  async #look(threadId) {
    const { signal } = this.#over;
    if (this.#asked.has(threadId)) return this.#asked.set(threadId, true);
    this.#asked.set(threadId, false);
    try {
      const thread = await this.client.thread(threadId);
      if (signal.aborted || this.#gone.has(threadId)) return; // the stream was faster
      if (this.#isOthers(thread)) this.#remove(threadId);
      else this.#put(thread);
    } catch (error) {
      if (error.status === 403 || error.status === 404) this.#remove(threadId);
    } finally {
      const again = this.#asked.get(threadId);
      this.#asked.delete(threadId);
      if (again && !signal.aborted) this.#look(threadId);
    }
  }

  // An admin may look at what another admin has, but it is not in the list (C27).
  #isOthers({ adminId, clientId }) {
    return this.client.user !== null && adminId !== null && !this.client.isMe(adminId) && !this.client.isMe(clientId);
  }

  #connect(state, error = null) {
    if (this.#over.signal.aborted || (this.connection === "denied" && state !== "live")) return;
    const isBack = state === "live" && this.connection !== "live";
    this.connection = state;
    this.error = error;
    this.#say("connection");
    if (isBack) this.#load(); // what came before the stream began, and what could not be asked for
  }

  // -- how it is told -------------------------------------------------------------------------------------------------

  #shown(thread) {
    const { adminId, threadId, openedAt } = thread;
    const read = readMark(this.client, threadId);
    const { preview, unread, at, id } = this.summaries.of(threadId, read);
    return { ...thread, unclaimed: adminId === null, unread, preview, lastActivityAt: at ?? openedAt, lastMessageId: id };
  }

  #change() {
    if (this.#stale) return;
    this.#stale = true;
    queueMicrotask(() => {
      this.#stale = false;
      const before = new Map(this.threads.map((thread) => [thread.threadId, thread]));
      const shown = [...this.#open.values()].map((thread) => same(before.get(thread.threadId), this.#shown(thread)));
      this.threads = shown.sort(
        (one, other) =>
          Number(other.unclaimed) - Number(one.unclaimed) ||
          Date.parse(other.lastActivityAt) - Date.parse(one.lastActivityAt) ||
          other.lastMessageId - one.lastMessageId || // times are in seconds
          other.threadId - one.threadId,
      );
      this.#say("threads");
    });
  }

  #say(type, detail = undefined) {
    if (!this.#over.signal.aborted) this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

// Whoever renders sees by identity what is as it was.
function same(before, now) {
  return JSON.stringify(before) === JSON.stringify(now) ? before : now;
}
