/** An event stream that goes on: resumed where it stopped, and made anew where EventSource gives up. */
import { ChatError } from "./errors.js";
import { backoff, pause } from "./pauses.js";

const GRACE = 4000; // milliseconds: a stream is recycled now and then, and back in three seconds; nobody need be told

/**
 * @typedef {{event: string, id: string, data: any}} Frame
 * @typedef {"connecting" | "live" | "reconnecting" | "offline" | "denied"} State
 */

export class ResumingStream {
  #source = null;
  #attempt = 0;
  #over = new AbortController();
  #grace = 0;
  #remake = null; // aborts the pause before the next EventSource

  /**
   * @param {object} options
   * @param {string} options.url
   * @param {string[]} options.events the names to listen to
   * @param {() => number | string | null} options.position the id to go on from; null: from now on
   * @param {(frame: Frame) => void} options.onframe
   * @param {(state: State, error: ChatError | null) => void} options.onstate
   * @param {() => Promise<unknown>} options.check asks, after a status that is final for EventSource, whether we may
   *   read at all: a ChatError that denies ends the stream
   */
  constructor(options) {
    this.options = options;
  }

  start() {
    const { signal } = this.#over;
    addEventListener("offline", () => this.#say("offline"), { signal });
    addEventListener("online", () => this.renew(), { signal });
    this.#connect();
  }

  stop() {
    this.#over.abort();
    this.#remake?.abort();
    clearTimeout(this.#grace);
    this.#source?.close();
  }

  /** Begin a new connection now: the present one may be dead without having noticed. */
  renew() {
    this.#attempt = 0;
    this.#connect();
  }

  #connect() {
    if (this.#over.signal.aborted) return;
    this.#remake?.abort();
    this.#source?.close();
    const { url, events, position, onframe } = this.options;
    const from = position();
    const source = new EventSource(from === null ? url : `${url}?lastEventId=${encodeURIComponent(from)}`);
    this.#source = source;
    source.onopen = () => {
      this.#attempt = 0;
      this.#say("live");
    };
    source.onerror = () => {
      this.#lose();
      if (source.readyState === EventSource.CLOSED) this.#again();
    };
    for (const event of events) {
      source.addEventListener(event, ({ data, lastEventId }) => {
        onframe({ event, id: lastEventId, data: JSON.parse(data) });
      });
    }
  }

  // EventSource has given up: after a proxy's 502 as after our own 403, and it tells neither.
  async #again() {
    const remake = new AbortController();
    this.#remake = remake;
    await pause(backoff(this.#attempt++), remake.signal);
    if (remake.signal.aborted) return;
    try {
      await this.options.check();
    } catch (error) {
      if (remake.signal.aborted) return;
      if (error instanceof ChatError && error.denies) this.#say("denied", error);
      else this.#again();
      return;
    }
    if (!remake.signal.aborted) this.#connect();
  }

  #lose() {
    if (!navigator.onLine) this.#say("offline");
    else if (!this.#grace) this.#grace = setTimeout(() => this.#say("reconnecting"), GRACE);
  }

  #say(state, error = null) {
    if (this.#over.signal.aborted) return;
    clearTimeout(this.#grace);
    this.#grace = 0;
    this.options.onstate(state, error);
  }
}
