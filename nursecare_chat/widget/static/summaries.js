/** What the inbox says of each chat: its last message, when that was, and how many are unread. */
import { readMark } from "./marks.js";

const AT_ONCE = 3; // requests; a browser has six connections, and the page wants some of them
const LOOK_BACK = 50; // messages among which unread ones are counted

export class Summaries {
  /** @type {Map<number, Map<number, {id: number, seq: number, type: string, text: string | null, mine: boolean, at: string}>>} */
  #known = new Map();
  #wanted = [];
  #running = 0;
  #stopped = false;

  /** @param {import("./client.js").ChatClient} client @param {() => void} onchange */
  constructor(client, onchange) {
    this.client = client;
    this.onchange = onchange;
  }

  stop() {
    this.#stopped = true;
    this.#wanted = [];
  }

  forget(thread) {
    this.#known.delete(thread);
  }

  /** The last `seq` of a chat that is known here. */
  lastSeq(thread) {
    return Math.max(0, ...(this.#known.get(thread)?.keys() ?? []));
  }

  /** Have what there is up to `lastSeq`, soon. */
  want(thread, lastSeq) {
    if (lastSeq <= this.lastSeq(thread) || this.#wanted.some((one) => one.thread === thread)) return;
    this.#wanted.push({ thread, lastSeq });
    this.#work();
  }

  add(thread, { id, seq, type, text, sender_id, created_at }) {
    if (!this.#known.has(thread)) this.#known.set(thread, new Map());
    const messages = this.#known.get(thread);
    messages.set(seq, { id, seq, type, text, mine: this.client.isMe(sender_id), at: created_at });
    const [last, read] = [this.lastSeq(thread), readMark(this.client, thread)];
    for (const one of messages.values()) {
      if (one.seq < last && (one.mine || one.seq <= read)) messages.delete(one.seq); // nothing to say of it any more
    }
  }

  /** @param {number} read up to which `seq` it was read */
  of(thread, read) {
    const messages = [...(this.#known.get(thread)?.values() ?? [])];
    const last = messages.reduce((one, other) => (one && one.seq > other.seq ? one : other), null);
    return {
      preview: last && { type: last.type, text: last.text, mine: last.mine },
      at: last?.at ?? null,
      id: last?.id ?? 0,
      unread: messages.filter(({ seq, mine }) => !mine && seq > read).length,
    };
  }

  async #work() {
    if (this.#running === AT_ONCE || !this.#wanted.length) return;
    this.#running++;
    const { thread, lastSeq } = this.#wanted.shift();
    const unread = lastSeq - readMark(this.client, thread);
    const limit = Math.min(Math.max(1, unread), LOOK_BACK);
    const page = await this.client.history(thread, { limit }).catch(() => null); // the list is looked at again anyway
    this.#running--;
    if (this.#stopped) return;
    for (const message of page?.messages ?? []) this.add(thread, message);
    this.onchange();
    this.#work();
  }
}
