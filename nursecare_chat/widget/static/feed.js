/** What comes into one thread: every message once, in the order of `seq`, without a gap, and the end (C29 to C32). */
import { backoff, pause } from "./pauses.js";
import { SharedStream } from "./sharing.js";

const PAGE = 50;
const ASLEEP = 30_000; // milliseconds hidden after which a connection may have died unnoticed
const LATE = 3000; // milliseconds that the stream may lag behind what is known otherwise
const WATCH = 60_000; // milliseconds between looks at whether the stream still brings what there is

export class Feed {
  #position = 0;
  #begun = false;
  #frames = []; // those that wait for their turn
  #busy = false;
  #over = new AbortController();
  #hiddenAt = 0;
  #state = "connecting";

  /**
   * @param {import("./client.js").ChatClient} client
   * @param {number} thread
   * @param {object} listener
   * @param {(message: import("./client.js").WireMessage) => void} listener.onmessage
   * @param {(closedAt: string) => void} listener.onclosed
   * @param {(lastSeq: number) => void} listener.onreset the place meant nothing to the server: begin again
   * @param {(state: import("./stream.js").State, error: import("./errors.js").ChatError | null) => void} listener.onstate
   */
  constructor(client, thread, listener) {
    this.client = client;
    this.thread = thread;
    this.listener = listener;
    this.shared = new SharedStream(`${client.owner}:${thread}`, {
      url: client.url(`threads/${thread}/stream`),
      events: ["MessageCreated", "ThreadClosed", "reset"],
      position: () => this.#position,
      onframe: (frame) => this.#take(frame),
      onstate: (state, error) => {
        this.#state = state;
        listener.onstate(state, error);
      },
      check: () => this.#look(),
    });
  }

  /** Keep what other tabs hear from now on, so that nothing is missed while the history is on its way. */
  listen() {
    this.shared.listen();
  }

  /** Go on from `position`, the last `seq` that is known. */
  begin(position) {
    const { signal } = this.#over;
    this.#position = position;
    this.#begun = true;
    this.shared.begin();
    this.#work();
    document.addEventListener("visibilitychange", () => this.#turn(), { signal });
    addEventListener("pageshow", (event) => event.persisted && this.#revive(), { signal });
    const watch = setInterval(() => this.#watch(), WATCH);
    signal.addEventListener("abort", () => clearInterval(watch));
  }

  /** Go on from where the thread is now, as soon as that is known. */
  async join() {
    const { signal } = this.#over;
    for (let attempt = 0; !signal.aborted; ) {
      try {
        const { lastSeq } = await this.#look();
        if (!signal.aborted) this.begin(lastSeq);
        return;
      } catch (error) {
        if (signal.aborted) return;
        if (error.denies) return this.listener.onstate("denied", error);
        this.listener.onstate(navigator.onLine ? "reconnecting" : "offline", null);
        await pause(backoff(attempt++), signal);
      }
    }
  }

  stop() {
    this.#over.abort();
    this.shared.stop();
  }

  /** Tell the other tabs, too, that the thread is closed, and end. */
  close(closedAt) {
    this.shared.share({ event: "ThreadClosed", id: "", data: { threadId: this.thread, closed_at: closedAt } });
    this.stop();
  }

  /** The thread is at `seq`: if the stream does not bring that soon, it is dead. */
  async expect(seq) {
    if (seq <= this.#position) return;
    await new Promise((resolve) => setTimeout(resolve, LATE));
    if (seq <= this.#position || !this.#begun || this.#over.signal.aborted) return;
    this.#revive();
  }

  #turn() {
    if (document.visibilityState === "hidden") this.#hiddenAt = Date.now();
    else if (Date.now() - this.#hiddenAt > ASLEEP) this.#revive();
  }

  #revive() {
    this.shared.wake();
    this.#take({ event: "look", id: "", data: {} });
  }

  async #watch() {
    if (document.visibilityState === "hidden" || this.#state !== "live") return;
    const seen = await this.#look().catch(() => null);
    if (seen) this.expect(seen.lastSeq);
  }

  async #look() {
    const thread = await this.client.thread(this.thread);
    if (thread.status === "closed") this.#end(thread.closedAt);
    return thread;
  }

  #end(closedAt) {
    if (this.#over.signal.aborted) return;
    this.close(closedAt);
    this.listener.onclosed(closedAt);
  }

  #take(frame) {
    this.#frames.push(frame);
    this.#work();
  }

  async #work() {
    if (this.#busy || !this.#begun) return;
    this.#busy = true;
    while (this.#frames.length && !this.#over.signal.aborted) await this.#handle(this.#frames.shift());
    this.#busy = false;
  }

  async #handle({ event, data }) {
    if (event === "ThreadClosed") {
      this.#end(data.closed_at);
    } else if (event === "reset") {
      this.#position = data.lastSeq;
      this.listener.onreset(data.lastSeq);
    } else if (event === "look" || data.seq > this.#position + 1) {
      await this.#catchUp(data.seq ?? Infinity);
    } else {
      this.#deliver(data);
    }
  }

  #deliver(message) {
    if (message.seq !== this.#position + 1 || this.#over.signal.aborted) return;
    this.#position = message.seq;
    this.listener.onmessage(message);
  }

  // Another tab's stream is ahead of what this one has seen, or this page has slept.
  async #catchUp(until) {
    const { signal } = this.#over;
    for (let attempt = 0; this.#position < until && !signal.aborted; ) {
      try {
        const page = await this.client.history(this.thread, { after: this.#position, limit: PAGE });
        page.messages.forEach((message) => this.#deliver(message));
        attempt = 0;
        if (page.nextAfter === null) return;
      } catch (error) {
        if (error.denies) return; // the stream finds out, too
        await pause(backoff(attempt++), signal);
      }
    }
  }
}
