/** The log: messages in order, days between them, where the new ones begin, and a place that stays while others arrive. */
import { h, icon } from "./dom.js";
import { MessageView } from "./message-view.js";

const NEAR = 48; // pixels from the end that count as the end
const TOGETHER = 5 * 60_000; // milliseconds between messages of one row

export class MessageList {
  #views = new Map();
  #marker = null; // seq of the first message that came unseen
  #count = 0;
  #atEnd = true;
  #oldest = null;
  #loading = false;

  /**
   * @param {import("./i18n.js").Texts} texts
   * @param {import("./message-view.js").Actions & {older: () => Promise<void>, seen: () => void}} actions
   */
  constructor(texts, actions) {
    const say = (key, values) => texts.say(key, values);
    this.texts = texts;
    this.actions = actions;
    this.list = h("ol", { class: "messages" });
    this.earlier = h("button", { type: "button", class: "chip earlier", hidden: true, onclick: () => this.#loadOlder() }, say("chat.earlier"));
    this.empty = h("div", { class: "empty", hidden: true },
      icon("chat", "icon emblem"), h("h3", {}, say("empty.title")), h("p", {}, say("empty.text")));
    this.waiting = h("div", { class: "skeleton", role: "img", "aria-label": say("chat.loading") }, ...[1, 2, 3].map(() => h("span")));
    // Not a live region by itself: history and one's own words would be read out; the element announces what arrives.
    this.log = h("div", {
      class: "log", part: "log", role: "log", "aria-live": "off", "aria-label": say("chat.messages"), tabindex: "0",
      onscroll: () => this.#scrolled(),
    }, this.earlier, this.waiting, this.empty, this.list);
    this.jump = h("button", { type: "button", class: "jump", part: "jump", hidden: true, onclick: () => this.toEnd(true) });
    this.element = h("div", { class: "log-box" }, this.log, this.jump);
    this.sizes = new ResizeObserver(() => this.#atEnd && this.toEnd());
    this.sizes.observe(this.log);
  }

  get atEnd() {
    return this.#atEnd;
  }

  /**
   * @param {import("./nursecare-chat.js").Conversation} conversation
   * @param {boolean} ready whether its history is there
   */
  update(conversation, ready) {
    const { messages, lastRead } = conversation;
    const own = messages.at(-1);
    const isNewOwn = own?.mine && !this.#views.has(own.key) && this.#views.size > 0;
    const prepended = this.#oldest !== null && messages[0]?.seq !== this.#oldest;
    const fromEnd = this.log.scrollHeight - this.log.scrollTop;
    if (isNewOwn) this.#marker = null;
    else this.#mark(messages, lastRead);
    this.#reconcile(messages);
    this.#oldest = messages[0]?.seq ?? null;
    this.waiting.hidden = ready || messages.length > 0;
    this.empty.hidden = !ready || messages.length > 0;
    this.earlier.hidden = !conversation.hasOlder;
    this.#count = conversation.unread;
    if (this.#atEnd || isNewOwn) this.toEnd();
    else if (prepended) this.log.scrollTop = this.log.scrollHeight - fromEnd;
    this.#showJump();
  }

  /** Where the unseen ones begin, once there are some; it stays while they are read. */
  #mark(messages, lastRead) {
    const unseen = messages.find(({ mine, seq }) => !mine && seq !== null && seq > lastRead);
    if (!unseen || !lastRead || (this.#atEnd && document.visibilityState === "visible" && this.#views.size)) return;
    if (this.#marker === null || this.#marker <= lastRead) this.#marker = unseen.seq;
  }

  #reconcile(messages) {
    const nodes = [];
    const days = new Map(); // how often each begins: what waits has this device's time, which may be before the server's
    const left = new Set(this.#views.keys());
    messages.forEach((message, index) => {
      const [before, after] = [messages[index - 1], messages[index + 1]];
      const day = new Date(message.created_at).toDateString();
      const begins = !before || new Date(before.created_at).toDateString() !== day;
      if (begins) {
        days.set(day, (days.get(day) ?? 0) + 1);
        nodes.push(this.#separator(`day ${day} ${days.get(day)}`, "day", this.texts.day(new Date(message.created_at))));
      }
      if (message.seq !== null && message.seq === this.#marker) {
        const count = messages.filter(({ mine, seq }) => !mine && seq >= this.#marker).length;
        nodes.push(this.#separator("new", "new-marker", this.texts.say("chat.new", { count })));
      }
      let view = this.#views.get(message.key);
      if (!view) this.#views.set(message.key, (view = new MessageView(this.texts, this.actions)));
      left.delete(message.key);
      view.update(message, {
        first: begins || !together(before, message) || message.seq === this.#marker,
        last: !after || !together(message, after) || after.seq === this.#marker,
      });
      nodes.push(view.element);
    });
    for (const key of left) this.#views.delete(key);
    arrange(this.list, nodes);
  }

  #separators = new Map();

  #separator(key, className, text) {
    let node = this.#separators.get(key);
    if (!node) this.#separators.set(key, (node = h("li", { class: `separator ${className}` }, h("span"))));
    if (node.textContent !== text) node.firstChild.textContent = text;
    return node;
  }

  /** @param {boolean} [smoothly] */
  toEnd(smoothly = false) {
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.#atEnd = true;
    this.log.scrollTo({ top: this.log.scrollHeight, behavior: smoothly && !calm ? "smooth" : "instant" });
    this.actions.seen();
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.log;
    const was = this.#atEnd;
    this.#atEnd = scrollHeight - scrollTop - clientHeight < NEAR;
    if (this.#atEnd && !was) this.actions.seen();
    this.#showJump();
    if (scrollTop < NEAR && !this.earlier.hidden && scrollHeight > clientHeight) this.#loadOlder();
  }

  async #loadOlder() {
    if (this.#loading) return;
    this.#loading = true;
    this.earlier.disabled = true;
    await this.actions.older().catch(() => {}); // the button stays
    this.#loading = this.earlier.disabled = false;
  }

  #showJump() {
    this.jump.hidden = this.#atEnd;
    const text = this.#count ? this.texts.say("chat.new", { count: this.#count }) : this.texts.say("chat.latest");
    if (this.jump.textContent !== text) this.jump.replaceChildren(icon("down"), h("span", {}, text));
  }

  /** Ask again for the photos that are missing, perhaps because the network was away. */
  renewMissing() {
    for (const { photo } of this.#views.values()) if (photo?.missing) photo.renew();
  }

  stop() {
    this.sizes.disconnect();
  }
}

function together(one, other) {
  return String(one.sender_id) === String(other.sender_id) && one.mine === other.mine && new Date(other.created_at) - new Date(one.created_at) < TOGETHER;
}

/** Make `nodes` the children of `parent`, moving only what is out of place: focus and loaded photos stay. */
function arrange(parent, nodes) {
  const wanted = new Set(nodes);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  nodes.forEach((node, index) => {
    if (parent.children[index] !== node) parent.insertBefore(node, parent.children[index] ?? null);
  });
}
