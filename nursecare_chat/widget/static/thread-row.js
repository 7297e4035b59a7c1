/** One chat in the inbox: a button with whom it is about, its last message, and how many are unread. */
import { h, hidden, setAttribute } from "./dom.js";

export class ThreadRow {
  /** @param {import("./i18n.js").Texts} texts @param {() => void} open */
  constructor(texts, open) {
    this.texts = texts;
    this.name = h("bdi"); // isolates the direction of what it holds, and stays on the side of the page's
    this.time = h("time");
    this.detail = h("bdi");
    this.preview = h("bdi");
    this.signs = h("span", { class: "row-signs" });
    this.initial = h("span", { class: "avatar", "aria-hidden": "true" });
    this.button = h("button", { type: "button", class: "row", part: "row", tabindex: "-1", onclick: open },
      this.initial,
      h("span", { class: "row-lines" },
        h("span", { class: "row-top" }, h("strong", { class: "row-name" }, this.name), this.time),
        h("span", { class: "row-detail" }, this.detail),
        h("span", { class: "row-bottom" }, h("span", { class: "row-preview" }, this.preview), this.signs)));
    this.element = h("li", {}, this.button);
  }

  /**
   * @param {import("./inbox.js").InboxThread} thread
   * @param {{title: string, detail?: string}} about what the host calls it
   * @param {boolean} selected
   */
  update(thread, about, selected) {
    const { preview, unread, unclaimed, lastActivityAt } = thread;
    setText(this.name, about.title);
    setText(this.detail, about.detail ?? "");
    this.detail.parentElement.hidden = !about.detail;
    setText(this.initial, [...about.title.trim()][0]?.toLocaleUpperCase(this.texts.language) ?? "");
    setText(this.time, this.texts.brief(new Date(lastActivityAt)));
    setAttribute(this.time, "datetime", lastActivityAt);
    setText(this.preview, this.#lastMessage(preview));
    const count = unread && h("span", { class: "count" },
      h("span", { "aria-hidden": "true" }, this.texts.number(unread)), hidden(this.texts.say("inbox.unread", { count: unread })));
    this.signs.replaceChildren(...[unclaimed && h("span", { class: "new" }, this.texts.say("inbox.new")), count].filter(Boolean));
    this.button.classList.toggle("unread", unread > 0);
    setAttribute(this.button, "aria-current", selected ? "true" : null);
  }

  #lastMessage(preview) {
    if (!preview) return this.texts.say("inbox.empty");
    const words = { image: "inbox.photo", location: "inbox.location" };
    const text = preview.type in words ? this.texts.say(words[preview.type]) : (preview.text ?? "");
    return preview.mine ? this.texts.say("inbox.own", { text }) : text;
  }
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
