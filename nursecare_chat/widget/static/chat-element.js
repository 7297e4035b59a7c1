/** `<nursecare-chat>`: one request's chat, from its start to the receipt of its erasure. docs/widget.md says what it takes. */
import { isKey } from "./client.js";
import { Composer } from "./composer.js";
import { askLocation, closeAll, confirmClose, enlarge } from "./dialogs.js";
import { h, icon } from "./dom.js";
import { receiveFiles } from "./drop.js";
import { MessageList } from "./message-list.js";
import { closedPage, deniedPage, startPage } from "./pages.js";
import { backoff, pause } from "./pauses.js";
import { badge } from "./title-badge.js";
import { WidgetElement } from "./widget-element.js";

const PAGES = 20; // of fifty chats, among which the request's is looked for; the button finds it anyway

export class NurseCareChat extends WidgetElement {
  static restarting = [...super.restarting, "thread", "request"];
  static redrawing = [...super.redrawing, "heading", "client-name", "admin-name", "badge"];
  static sheets = ["theme.css", "dialogs.css", "chat.css", "messages.css", "composer.css"];

  #run = null; // ends what belongs to one start
  #conversation = null;
  #looking = true; // whether the request has a chat already
  #ready = false;
  #phase = "";
  #waiting = "";
  #wantsFocus = false;

  /** The conversation behind the element, for a host's own script; null before the start. */
  get conversation() {
    return this.#conversation;
  }

  /** What is written but not sent. */
  get draft() {
    return this.composer?.draft ?? this.#waiting;
  }

  set draft(text) {
    if (this.composer) this.composer.draft = text;
    else this.#waiting = text;
  }

  // -- start and end --------------------------------------------------------------------------------------------------

  prepare() {
    this.#conversation = null;
    this.#looking = true;
    this.#ready = false;
    this.#run = new AbortController();
  }

  async begin() {
    const { signal } = this.#run;
    document.addEventListener("visibilitychange", () => this.#seen(), { signal });
    const thread = this.getAttribute("thread") ?? (await this.#search(signal));
    if (signal.aborted) return;
    if (thread !== null) this.#converse(Number(thread));
    this.#looking = false;
    this.#show();
  }

  end() {
    this.#run.abort();
    this.#conversation?.stop();
    this.#conversation = null;
    this.list?.stop();
    this.composer?.clear();
    this.#waiting = "";
    badge(this, 0);
  }

  // The network's troubles pass. After a refusal the start page is shown, and its button says what is wrong.
  async #search(signal) {
    for (let attempt = 0; !signal.aborted; ) {
      try {
        return await this.#find();
      } catch ({ status, retryAfter = 0 }) {
        const passes = status === 0 || status === 429 || (status >= 500 && status !== 501);
        if (!passes) return null;
        await pause(Math.max(backoff(attempt++), retryAfter * 1000), signal);
      }
    }
    return null;
  }

  async #find() {
    const request = this.getAttribute("request");
    if (request === null) return null;
    if (this.hasAttribute("auto")) return (await this.client.open(request)).threadId;
    for (let [page, cursor] = [0, undefined]; page < PAGES && cursor !== null; page++) {
      const { threads, nextCursor } = await this.client.threads({ limit: 50, cursor });
      const found = threads.find(({ requestId }) => isKey(requestId, request));
      if (found) return found.threadId;
      cursor = nextCursor;
    }
    return null;
  }

  async #open() {
    const { signal } = this.#run;
    const { threadId } = await this.client.open(this.getAttribute("request"));
    if (signal.aborted) return;
    this.#converse(threadId);
    this.tell("nursecare-opened", { threadId });
    this.composer?.focus();
  }

  #converse(threadId) {
    const { signal } = this.#run;
    const conversation = this.client.conversation(threadId);
    const on = (name, act) => conversation.addEventListener(name, act, { signal });
    on("messages", () => this.#refresh());
    on("thread", () => this.#refresh());
    on("read", () => this.#count());
    on("connection", () => this.#connection());
    on("receipt", () => this.#phase === "closed" && this.#show(true));
    on("received", ({ detail }) => this.#received(detail));
    this.#conversation = conversation;
    this.#show();
    conversation.start().then(() => {
      if (signal.aborted) return;
      this.#ready = true;
      this.#refresh();
      this.#seen();
    });
  }

  /** Put the focus where the person goes on: into the message, or onto what is shown in its place. */
  focusInput() {
    if (this.composer) this.composer.focus();
    else this.#wantsFocus = true;
  }

  // -- what is shown --------------------------------------------------------------------------------------------------

  draw() {
    this.#phase = "";
    this.heading = h("h2", { class: "title", part: "title", id: "title" }, this.getAttribute("heading") || this.say("chat.title"));
    this.state = h("p", { class: "state", part: "state", role: "status" });
    this.closer = h("button", { type: "button", class: "button quiet small close", part: "close-button", hidden: true, onclick: () => this.#askClose() },
      this.say("chat.close"));
    this.notice = h("p", { class: "notice", part: "notice", hidden: true });
    this.main = h("div", { class: "main" });
    const head = h("header", { class: "head", part: "header" },
      h("slot", { name: "lead" }), h("span", { class: "badge", "aria-hidden": "true" }, icon("chat")),
      h("div", { class: "titles" }, this.heading, this.state),
      h("slot", { name: "actions" }), this.closer);
    const over = h("div", { class: "drop", "aria-hidden": "true" }, icon("photo", "icon emblem"), this.say("chat.drop"));
    receiveFiles(this.frame, () => this.#phase === "talk", (files) => this.composer.add(files));
    return [h("section", { class: "chat", "aria-labelledby": "title" }, head, this.notice, this.main, over)];
  }

  drawn() {
    this.#show();
  }

  #phaseNow() {
    const conversation = this.#conversation;
    if (!conversation) return this.#looking ? "looking" : "start";
    if (conversation.closedAt !== null || conversation.connection === "closed") return "closed";
    return conversation.connection === "denied" ? "denied" : "talk";
  }

  /** @param {boolean} [again] also if the phase is what it was */
  #show(again = false) {
    const phase = this.#phaseNow();
    if (phase === this.#phase && !again) return this.#refresh();
    const active = this.shadowRoot.activeElement;
    const focused = active !== null && this.#phase !== "";
    const within = this.main.contains(active) ? active.localName : null;
    const wasOpen = this.main.querySelector("details")?.open;
    const changed = phase !== this.#phase;
    this.#phase = phase;
    this.frame.dataset.phase = phase;
    if (changed) this.#leaveTalk(phase);
    if (phase === "talk") this.main.replaceChildren(...this.#talk());
    else this.main.replaceChildren(...this.#page(phase));
    if (wasOpen) this.main.querySelector("details")?.setAttribute("open", "");
    if (phase === "talk" && this.#wantsFocus) this.composer.focus();
    else if (changed && phase !== "looking" && ((focused && phase !== "talk") || this.#wantsFocus)) this.#focusPage();
    else if (!changed && within === "h3") this.#focusPage();
    else if (!changed && within) this.main.querySelector(within)?.focus();
    if (phase !== "looking") this.#wantsFocus = false;
    this.#refresh();
    if (phase === "closed" && changed) this.tell("nursecare-closed", { threadId: this.#conversation.threadId, closedAt: this.#conversation.closedAt });
  }

  #leaveTalk(phase) {
    if (phase !== "talk") {
      closeAll(this.frame);
      this.hush();
    }
    this.#waiting = phase === "closed" ? "" : this.draft;
    this.list?.stop();
    this.composer?.clear();
    this.list = this.composer = null;
  }

  #talk() {
    const conversation = this.#conversation;
    this.list = new MessageList(this.texts, {
      retry: (key) => conversation.retry(key),
      cancel: (key) => {
        conversation.cancel(key);
        this.composer.focus(); // the button that had it is gone
      },
      renew: (message) => conversation.refreshMedia(message),
      enlarge: (photo) => enlarge(this.frame, this.texts, photo),
      name: (message) => this.#name(message),
      older: () => conversation.loadOlder(),
      seen: () => this.#seen(),
    });
    this.composer = new Composer(this.texts, this.client, {
      text: (text) => conversation.sendText(text),
      photo: (file) => conversation.sendPhoto(file),
      locate: () => askLocation(this.frame, this.texts, (place) => conversation.sendLocation(place)),
    });
    this.composer.draft = this.#waiting;
    return [this.list.element, this.composer.element];
  }

  #page(phase) {
    const conversation = this.#conversation;
    if (phase === "looking") return [h("div", { class: "skeleton", role: "img", "aria-label": this.say("chat.loading") }, ...[1, 2, 3].map(() => h("span")))];
    if (phase === "start") return this.hasAttribute("request") ? [startPage(this.texts, () => this.#open())] : [];
    if (phase === "denied") return [deniedPage(this.texts, conversation.error)];
    const { closedAt, receipt, threadId } = conversation;
    return [closedPage(this.texts, { closedAt, receipt, address: this.client.url(`threads/${threadId}/receipt`) })];
  }

  #focusPage() {
    const heading = this.main.querySelector("h3");
    heading?.setAttribute("tabindex", "-1");
    heading?.focus();
  }

  #refresh() {
    const conversation = this.#conversation;
    if (this.#phase !== this.#phaseNow()) return this.#show();
    if (this.#phase === "talk") this.list.update(conversation, this.#ready);
    this.closer.hidden = this.#phase !== "talk" || !conversation.thread;
    this.#showConnection();
    this.#count();
  }

  #connection() {
    this.#refresh();
    if (this.#conversation.connection === "live") this.list?.renewMissing();
  }

  #showConnection() {
    const states = { closed: "closed", denied: "denied", start: "" };
    const connection = states[this.#phase] ?? this.#conversation?.connection ?? "connecting";
    this.frame.dataset.connection = connection;
    const text = connection && this.say(`connection.${connection}`);
    if (this.state.textContent !== text) this.state.textContent = text;
    const away = this.#phase === "talk" && (connection === "reconnecting" || connection === "offline");
    this.notice.hidden = !away;
    if (away) this.notice.replaceChildren(icon("offline"), h("span", {}, this.say(`${connection}.notice`)));
  }

  // -- what happens ---------------------------------------------------------------------------------------------------

  #name({ mine, sender_id }) {
    if (mine) return this.say("chat.you");
    const client = String(sender_id) === String(this.#conversation.thread?.clientId);
    return this.getAttribute(client ? "client-name" : "admin-name") || this.say(client ? "chat.client" : "chat.admin");
  }

  #received(message) {
    const name = this.#name(message);
    const keys = { text: "message.text", image: "message.photo", location: "message.location" };
    this.announce(this.say(keys[message.type], { name, text: message.text }), (count) => this.say("chat.new", { count }));
  }

  #seen() {
    if (this.#phase !== "talk" || !this.#ready || !this.list.atEnd || document.visibilityState !== "visible") return;
    const last = this.#conversation.messages.findLast(({ seq }) => seq !== null);
    if (last) this.#conversation.markRead(last.seq);
  }

  #count() {
    const count = this.#phase === "talk" ? this.#conversation.unread : 0;
    badge(this, this.getAttribute("badge") === "off" ? 0 : count);
    if (count !== this.unread) this.tell("nursecare-unread", { count });
    this.unread = count;
  }

  #askClose() {
    const unsent = this.#conversation.messages.filter(({ state }) => state !== "sent").length;
    confirmClose(this.frame, this.texts, { unsent, close: () => this.#conversation.closeThread() });
  }
}
