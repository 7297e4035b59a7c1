/**
 * Laravel Echo on our stream: `new Echo({ broadcaster: NurseCareConnector })`, then
 * `Echo.private("chat.7").listen("MessageCreated", …)`. Echo takes a class as its `broadcaster`
 * (https://github.com/laravel/echo, packages/laravel-echo/src/echo.ts) and calls what its own connectors have.
 */
import { ChatClient } from "./client.js";
import { Feed } from "./feed.js";

const CHANNEL = /^(?:private-)?chat\.(\d+)$/;
const STATES = {
  connecting: "connecting",
  live: "connected",
  reconnecting: "reconnecting",
  offline: "reconnecting",
  denied: "failed",
};

export class NurseCareConnector {
  /** @type {Record<string, ChatChannel>} by the names that Laravel gives them, as Echo's own connectors have it */
  channels = {};
  #listeners = new Set();

  /** @param {{base?: string, user?: number | string, namespace?: string | false}} options those given to Echo */
  constructor(options = {}) {
    this.options = options;
    this.client = new ChatClient(options);
  }

  connect() {}

  /** @param {string} name `chat.7` */
  privateChannel(name) {
    return this.channel(`private-${name}`);
  }

  channel(name) {
    this.channels[name] ??= new ChatChannel(this.client, name, this.options.namespace, () => this.#tell());
    return this.channels[name];
  }

  /** Nobody is told who is there. */
  presenceChannel(name) {
    throw new Error(`There are no presence channels: ${name}`);
  }

  encryptedPrivateChannel(name) {
    throw new Error(`There are no end-to-end encrypted channels: ${name}`);
  }

  listen(name, event, callback) {
    return this.channel(name).listen(event, callback);
  }

  leave(name) {
    this.leaveChannel(name);
    this.leaveChannel(`private-${name}`);
  }

  leaveChannel(name) {
    this.channels[name]?.unsubscribe();
    delete this.channels[name];
  }

  /** No event that one caused oneself is left out, so nothing needs to be told apart by this. */
  socketId() {
    return undefined;
  }

  connectionStatus() {
    const states = Object.values(this.channels).map(({ state }) => STATES[state]);
    const worst = ["failed", "reconnecting", "connecting", "connected"];
    return worst.find((state) => states.includes(state)) ?? "disconnected";
  }

  /** @param {(status: string) => void} callback @returns {() => void} ends that */
  onConnectionChange(callback) {
    this.#listeners.add(callback);
    return () => this.#listeners.delete(callback);
  }

  disconnect() {
    Object.keys(this.channels).forEach((name) => this.leaveChannel(name));
    this.#tell();
  }

  #tell() {
    const status = this.connectionStatus();
    this.#listeners.forEach((callback) => callback(status));
  }
}

export class ChatChannel {
  /** @type {import("./stream.js").State} */
  state = "connecting";
  #callbacks = new Map();
  #all = new Set();
  #succeeded = new Set();
  #failed = new Set();
  #error = null;

  /**
   * @param {ChatClient} client
   * @param {string} name `private-chat.7`
   * @param {string | false} [namespace] which Laravel would put before the events' names
   * @param {() => void} [onstate]
   */
  constructor(client, name, namespace = undefined, onstate = () => {}) {
    const thread = CHANNEL.exec(name)?.[1];
    if (!thread) throw new Error(`There is no channel ${name}: they are called chat. and the thread's id.`);
    this.name = name;
    this.namespace = namespace;
    this.onstate = onstate;
    this.feed = new Feed(client, Number(thread), {
      onmessage: (message) => this.#dispatch("MessageCreated", { threadId: Number(thread), ...message }),
      onclosed: (closedAt) => this.#dispatch("ThreadClosed", { threadId: Number(thread), closed_at: closedAt }),
      onreset: () => {},
      onstate: (state, error) => this.#turn(state, error),
    });
    this.feed.listen();
    this.feed.join();
  }

  unsubscribe() {
    this.feed.stop();
  }

  listen(event, callback) {
    return this.on(this.#plain(event), callback);
  }

  on(event, callback) {
    if (!this.#callbacks.has(event)) this.#callbacks.set(event, new Set());
    this.#callbacks.get(event).add(callback);
    return this;
  }

  listenToAll(callback) {
    this.#all.add(callback);
    return this;
  }

  stopListening(event, callback = undefined) {
    if (callback) this.#callbacks.get(this.#plain(event))?.delete(callback);
    else this.#callbacks.delete(this.#plain(event));
    return this;
  }

  stopListeningToAll(callback = undefined) {
    if (callback) this.#all.delete(callback);
    else this.#all.clear();
    return this;
  }

  /** Whispers and notifications: there are none, so nothing is ever called. */
  listenForWhisper() {
    return this;
  }

  stopListeningForWhisper() {
    return this;
  }

  notification() {
    return this;
  }

  stopListeningForNotification() {
    return this;
  }

  whisper() {
    return this;
  }

  subscribed(callback) {
    this.#succeeded.add(callback);
    if (this.state === "live") callback();
    return this;
  }

  error(callback) {
    this.#failed.add(callback);
    if (this.#error) callback(this.#error);
    return this;
  }

  #turn(state, error) {
    const before = this.state;
    this.state = state;
    this.#error = error;
    if (state === "live" && before !== "live") this.#succeeded.forEach((callback) => callback());
    if (error) this.#failed.forEach((callback) => callback(error));
    this.onstate();
  }

  #dispatch(event, data) {
    [...(this.#callbacks.get(event) ?? [])].forEach((callback) => callback(data));
    [...this.#all].forEach((callback) => callback(event, data));
  }

  // Echo's users write "MessageCreated", ".MessageCreated" or "App\\Events\\MessageCreated".
  #plain(event) {
    const namespace = this.namespace ? `${this.namespace}.`.replaceAll(".", "\\") : "";
    const name = event.replace(/^[.\\]/, "").replaceAll(".", "\\");
    return name.replace(/^App\\Events\\/, "").replace(namespace, "");
  }
}
