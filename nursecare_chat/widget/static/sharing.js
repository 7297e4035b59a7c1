/**
 * One stream for all tabs of a browser, which may have six connections to a server altogether (HTTP/1.1).
 *
 * A Web Lock says which tab holds the stream; it hands every frame on through a BroadcastChannel. When it goes, the
 * browser gives the lock to the next tab, which resumes from the last frame that it knows. Where there are no locks
 * (an origin that is not secure) each tab has a stream of its own.
 */
import { ChatError } from "./errors.js";
import { ResumingStream } from "./stream.js";

const SILENCE = 5000; // milliseconds in which the tab that holds the stream answers, unless it is frozen

/** @typedef {import("./stream.js").Frame} Frame */

export class SharedStream {
  /** @type {BroadcastChannel | null} */
  #channel = null;
  /** @type {AbortController | null} */
  #campaign = null;
  /** @type {ResumingStream | null} */
  #stream = null;
  #state = { state: "connecting", error: null };
  #heard = 0;

  /**
   * @param {string} name the same in all tabs, and only for this user's same stream
   * @param {ConstructorParameters<typeof ResumingStream>[0]} options `onframe` and `onstate` are called in every tab
   */
  constructor(name, options) {
    this.name = `nursecare-chat:stream:${name}`;
    this.options = options;
  }

  /** Hear what the tab that holds the stream has to say; nothing is asked of the server yet. */
  listen() {
    if (!navigator.locks || typeof BroadcastChannel === "undefined") return;
    this.#channel = new BroadcastChannel(this.name);
    this.#channel.onmessage = ({ data }) => this.#hear(data);
  }

  /** Hold the stream as soon as no other tab does. */
  begin() {
    if (!this.#channel) return this.#lead();
    this.#compete();
    this.#call({ who: true });
  }

  stop() {
    this.#campaign?.abort();
    this.#campaign = null;
    this.#retire();
    this.#channel?.close();
    this.#channel = null;
  }

  /** Tell the other tabs what this one learned otherwise. @param {Frame} frame */
  share(frame) {
    this.#channel?.postMessage({ frame });
  }

  /** The stream is dead or late, or the page has slept: have somebody who is awake make it anew. */
  wake() {
    if (this.#stream) this.#stream.renew();
    else if (this.#channel) this.#call({ renew: true });
  }

  // A tab that the browser has frozen keeps the lock and answers nothing.
  async #call(message) {
    const [campaign, before] = [this.#campaign, this.#heard];
    this.#channel.postMessage(message);
    await new Promise((resolve) => setTimeout(resolve, SILENCE));
    if (campaign === this.#campaign && !campaign.signal.aborted && !this.#stream && before === this.#heard) {
      this.#compete({ steal: true });
    }
  }

  #compete(how = null) {
    this.#campaign?.abort();
    const campaign = new AbortController();
    this.#campaign = campaign;
    const reign = () => {
      if (campaign.signal.aborted) return undefined;
      this.#lead();
      return new Promise((resolve) => campaign.signal.addEventListener("abort", resolve));
    };
    navigator.locks.request(this.name, how ?? { signal: campaign.signal }, reign).catch(() => {
      if (campaign.signal.aborted) return;
      this.#retire(); // another tab has taken it, believing this one frozen
      this.#compete();
    });
  }

  #lead() {
    this.#stream = new ResumingStream({
      ...this.options,
      onframe: (frame) => {
        this.share(frame);
        this.options.onframe(frame);
      },
      onstate: (state, error) => {
        this.#state = { state, error: error?.toJSON() };
        this.#channel?.postMessage(this.#state);
        this.options.onstate(state, error);
      },
    });
    this.#stream.start();
  }

  #retire() {
    this.#stream?.stop();
    this.#stream = null;
  }

  #hear({ frame, state, error, who, renew }) {
    if (who || renew) {
      if (renew) this.#stream?.renew();
      if (this.#stream) this.#channel.postMessage(this.#state);
      return;
    }
    this.#heard++;
    if (frame) this.options.onframe(frame);
    else if (!this.#stream) this.options.onstate(state, error ? ChatError.from(error) : null);
  }
}
