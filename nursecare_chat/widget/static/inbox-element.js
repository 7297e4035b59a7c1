/** `<nursecare-chat-inbox>`: an admin's open chats, the unclaimed ones first, and beside them the one that is chosen. */
import { h, icon } from "./dom.js";
import { ThreadRow } from "./thread-row.js";
import { badge } from "./title-badge.js";
import { WidgetElement } from "./widget-element.js";

const HANDED_ON = ["user", "base", "max-text", "max-image-bytes", "image-types", "theme", "client-name", "admin-name"];

export class NurseCareChatInbox extends WidgetElement {
  static restarting = [...super.restarting, "describe-url"];
  static redrawing = [...super.redrawing, "request-url", "heading"];
  static sheets = ["theme.css", "inbox.css"];

  #describe = null;
  #run = null;
  #inbox = null;
  #known = new Map(); // request id → what it is called
  #rows = new Map();
  #selected = null;
  #chat = null;
  #drafts = new Map(); // thread id → what was written there, and not sent, before another chat was chosen
  #place = null; // thread id of the row that Tab comes to
  #ready = false;

  constructor() {
    super();
    if (!Object.hasOwn(this, "describe")) return;
    const { describe } = this; // set before this module was there
    delete this.describe;
    this.describe = describe;
  }

  /**
   * What the host calls a thread: `inbox.describe = async (thread) => ({title, detail})`. Without it `describe-url` is asked,
   * an address that answers so in JSON, with `{id}` for the request's id.
   * @type {((thread: import("./inbox.js").InboxThread) => Promise<{title: string, detail?: string}>) | null}
   */
  get describe() {
    return this.#describe;
  }

  set describe(describe) {
    this.#describe = describe;
    this.#known.clear();
    if (this.#ready) this.#refresh();
  }

  prepare() {
    this.#run = new AbortController();
    this.#inbox = this.client.inbox();
    this.#known.clear();
    this.#drafts.clear();
    this.#selected = this.#chat = this.#place = null;
    this.#ready = false;
  }

  begin() {
    const { signal } = this.#run;
    const inbox = this.#inbox;
    inbox.addEventListener("threads", () => this.#refresh(), { signal });
    inbox.addEventListener("connection", () => this.#refresh(), { signal });
    inbox.addEventListener("arrived", ({ detail }) => this.#arrived(detail), { signal });
    inbox.start().then(() => {
      if (signal.aborted) return;
      this.#ready = true;
      this.#refresh();
    });
  }

  end() {
    this.#run.abort();
    this.#inbox.stop();
    badge(this, 0);
  }

  // -- what is shown --------------------------------------------------------------------------------------------------

  draw() {
    this.#keepDraft();
    this.#rows.clear();
    const part = (key) => {
      const list = h("ul", { class: "rows" });
      return { list, element: h("section", { hidden: true }, h("h3", {}, this.say(key)), list) };
    };
    this.waiting = part("inbox.waiting");
    this.mine = part("inbox.mine");
    this.state = h("p", { class: "state", role: "status" });
    this.more = h("button", { type: "button", class: "button quiet small", hidden: true, onclick: () => this.#inbox.loadMore().catch(() => {}) },
      this.say("inbox.more"));
    this.none = h("div", { class: "none", hidden: true }, icon("inbox", "icon emblem"),
      h("h3", {}, this.say("inbox.none")), h("p", {}, this.say("inbox.noneText")));
    this.loading = h("div", { class: "skeleton", role: "img", "aria-label": this.say("chat.loading") }, ...[1, 2, 3].map(() => h("span")));
    this.threads = h("div", { class: "threads", onkeydown: (event) => this.#key(event) },
      this.loading, this.none, this.waiting.element, this.mine.element, this.more);
    this.placeholder = h("div", { class: "placeholder" }, icon("chat", "icon emblem"),
      h("p", { class: "placeholder-title" }, this.say("inbox.choose")),
      h("p", {}, this.say("inbox.chooseText")), h("p", { class: "fine" }, this.say("inbox.keys")));
    this.pane = h("div", { class: "pane", onkeydown: (event) => this.#escape(event) }, this.placeholder);
    this.box = h("div", { class: "inbox", part: "inbox" },
      h("section", { class: "list", part: "list", "aria-labelledby": "title" },
        h("header", { class: "head" }, h("h2", { id: "title" }, this.getAttribute("heading") || this.say("inbox.title")), this.state),
        this.threads),
      this.pane);
    return [this.box];
  }

  drawn() {
    const { threads } = this.#inbox;
    const chosen = threads.find(({ threadId }) => threadId === this.#selected);
    if (chosen) this.#show(chosen);
    this.#refresh();
  }

  #refresh() {
    const { threads, connection, hasMore, error } = this.#inbox;
    this.#fill(this.waiting, threads.filter(({ unclaimed }) => unclaimed));
    this.#fill(this.mine, threads.filter(({ unclaimed }) => !unclaimed));
    const there = new Set(threads.map(({ threadId }) => threadId));
    for (const kept of [this.#rows, this.#drafts]) {
      for (const id of kept.keys()) if (!there.has(id)) kept.delete(id);
    }
    this.#rove();
    this.loading.hidden = this.#ready || threads.length > 0;
    this.none.hidden = !this.#ready || threads.length > 0;
    this.more.hidden = !hasMore;
    this.frame.dataset.connection = connection;
    const text = connection === "denied" && error ? this.texts.error(error) : this.say(`connection.${connection}`);
    if (this.state.textContent !== text) this.state.textContent = text;
    badge(this, threads.reduce((sum, { unread }) => sum + unread, 0));
  }

  #fill({ list, element }, threads) {
    threads.forEach((thread, index) => {
      const { threadId } = thread;
      let row = this.#rows.get(threadId);
      if (!row) this.#rows.set(threadId, (row = new ThreadRow(this.texts, () => this.open(threadId))));
      row.update(thread, this.#about(thread), threadId === this.#selected);
      if (list.children[index] !== row.element) keepFocus(this.shadowRoot, () => list.insertBefore(row.element, list.children[index] ?? null));
    });
    while (list.children.length > threads.length) list.lastElementChild.remove();
    element.hidden = threads.length === 0;
  }

  #about(thread) {
    const key = String(thread.requestId);
    if (!this.#known.has(key)) {
      this.#known.set(key, { title: this.say("inbox.request", { id: key }) });
      const describe = this.#describe;
      this.#ask(thread).then((about) => {
        if (!about?.title || describe !== this.#describe) return;
        const [title, detail] = [about.title, about.detail ?? ""].map(String); // a host's number is a name, too
        this.#known.set(key, { title, detail });
        this.#refresh();
        if (this.#chat?.dataset.request === key) this.#chat.setAttribute("heading", title);
      }, () => {}); // as is the request's
    }
    return this.#known.get(key);
  }

  async #ask(thread) {
    if (this.describe) return this.describe(thread);
    const address = this.getAttribute("describe-url");
    if (!address) return null;
    const response = await fetch(address.replaceAll("{id}", encodeURIComponent(thread.requestId)), { signal: this.#run.signal });
    return response.ok ? response.json() : null;
  }

  // -- what happens ---------------------------------------------------------------------------------------------------

  /** Show a thread's chat. @param {number} threadId one that is in the list */
  open(threadId) {
    const thread = this.#inbox.threads.find((one) => one.threadId === threadId);
    if (!thread || !this.tell("nursecare-open", { threadId, requestId: thread.requestId }, true)) return;
    this.#place = threadId;
    if (this.#selected !== threadId || !this.#chat) this.#show(thread);
    this.#refresh();
    this.#chat.focusInput();
  }

  #keepDraft() {
    if (this.#chat?.isConnected) this.#drafts.set(this.#selected, this.#chat.draft);
  }

  #show(thread) {
    this.#keepDraft();
    this.#selected = thread.threadId;
    const chat = document.createElement("nursecare-chat");
    for (const name of HANDED_ON) if (this.hasAttribute(name)) chat.setAttribute(name, this.getAttribute(name));
    chat.setAttribute("lang", this.texts.language);
    chat.setAttribute("thread", thread.threadId);
    chat.setAttribute("badge", "off"); // the inbox counts them all
    chat.setAttribute("heading", this.#about(thread).title);
    chat.dataset.request = thread.requestId;
    chat.draft = this.#drafts.get(thread.threadId) ?? "";
    const back = h("button", { type: "button", slot: "lead", class: "back", "aria-label": this.say("inbox.back"), onclick: () => this.#back() },
      icon("back", "icon flip"));
    const address = this.getAttribute("request-url");
    const link = address && h("a", { slot: "actions", class: "details", href: address.replaceAll("{id}", encodeURIComponent(thread.requestId)) },
      this.say("inbox.details"));
    chat.append(...[back, link].filter(Boolean));
    this.#chat = chat;
    this.pane.replaceChildren(chat);
    this.box.classList.add("chosen");
  }

  #back() {
    const row = this.#rows.get(this.#selected) ?? this.#rows.get(this.#place);
    this.#keepDraft();
    this.#selected = this.#chat = null;
    this.pane.replaceChildren(this.placeholder);
    this.box.classList.remove("chosen");
    this.#refresh();
    (row?.button ?? this.#ordered()[0]?.button)?.focus();
  }

  #escape(event) {
    const inDialog = event.composedPath().some((node) => node.localName === "dialog"); // which it closes
    if (event.key === "Escape" && !event.isComposing && !inDialog && this.#chat) this.#back();
  }

  #ordered() {
    return this.#inbox.threads.map(({ threadId }) => this.#rows.get(threadId)).filter(Boolean);
  }

  /** One row is in the order of Tab; arrows move within the list (ARIA Authoring Practices, roving tabindex). */
  #rove(row = this.#rows.get(this.#place) ?? this.#ordered()[0]) {
    for (const [id, one] of this.#rows) {
      one.button.tabIndex = one === row ? 0 : -1;
      if (one === row) this.#place = id;
    }
  }

  #key(event) {
    const rows = this.#ordered();
    const at = rows.findIndex(({ button }) => button === this.shadowRoot.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (at < 0 || to === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const row = rows[Math.max(0, Math.min(to, rows.length - 1))];
    this.#rove(row);
    row.button.focus();
  }

  #arrived({ threadId }) {
    if (threadId === this.#selected) return; // its chat says it
    const thread = this.#inbox.threads.find((one) => one.threadId === threadId);
    if (!thread) return;
    this.announce(this.say("inbox.arrived", { name: this.#about(thread).title }), (count) => this.say("chat.new", { count }));
  }
}

/** A node that is moved loses the focus. */
function keepFocus(root, move) {
  const focused = root.activeElement;
  move();
  if (focused && root.activeElement !== focused) focused.focus({ preventScroll: true });
}
