/** One message of the list. What a message says is put in as text nodes. */
import { h, hidden, icon, setAttribute } from "./dom.js";
import { PhotoView } from "./photo-view.js";

/**
 * @typedef {object} Actions
 * @property {(key: string) => void} retry
 * @property {(key: string) => void} cancel
 * @property {(message: object) => Promise<string | null>} renew
 * @property {(photo: PhotoView) => void} enlarge
 * @property {(message: object) => string} name who a message is from
 */

export class MessageView {
  #message = null;
  #placed = "";

  /** @param {import("./i18n.js").Texts} texts @param {Actions} actions */
  constructor(texts, actions) {
    this.texts = texts;
    this.actions = actions;
    this.photo = null;
    this.sender = h("span", { class: "sender" });
    this.bubble = h("div", { class: "bubble", part: "bubble" });
    this.meta = h("div", { class: "meta" });
    this.trouble = h("div", { class: "trouble", hidden: true });
    this.element = h("li", { class: "message" }, this.sender, this.bubble, this.meta, this.trouble);
  }

  get key() {
    return this.#message.key;
  }

  /** @param {object} message @param {{first: boolean, last: boolean}} place in the row of one sender's messages */
  update(message, place) {
    const placed = `${place.first} ${place.last}`;
    if (message === this.#message && placed === this.#placed) return;
    const before = this.#message;
    this.#message = message;
    this.#placed = placed;
    const { state, mine } = message;
    this.element.className = ["message", mine ? "mine" : "theirs", state, place.first && "first", place.last && "last", message.type]
      .filter(Boolean).join(" ");
    setAttribute(this.element, "data-seq", message.seq);
    this.bubble.setAttribute("part", `bubble ${mine ? "bubble-mine" : "bubble-theirs"}`);
    this.sender.replaceChildren(this.actions.name(message));
    this.sender.classList.toggle("visually-hidden", mine || !place.first);
    if (!before) this.#fill(message);
    if (message.type === "image" && this.photo) this.photo.update(message);
    this.#showProgress(message);
    this.#showState(message);
  }

  #fill(message) {
    if (message.type === "image") {
      this.photo = new PhotoView(this.texts, this.actions);
      this.bubble.append(this.photo.element);
    } else if (message.type === "location" && message.lat !== null) {
      this.bubble.append(this.#card(message));
    } else {
      this.bubble.append(h("p", { class: "text", dir: "auto" }, message.text ?? this.texts.say("message.erased")));
    }
  }

  #card({ lat, lng }) {
    const place = `${lat.toFixed(5)}, ${lng.toFixed(5)}`;
    const address = `https://www.openstreetmap.org/?mlat=${lat}&mlon=${lng}#map=17/${lat}/${lng}`;
    return h(
      "div",
      { class: "place" },
      h("div", { class: "map", "aria-hidden": "true" }, icon("pin", "icon pin")),
      h("div", { class: "place-text" },
        h("strong", {}, this.texts.say("location.title")),
        h("span", { class: "coordinates" }, h("bdi", {}, place)),
        h("a", { href: address, target: "_blank", rel: "noopener noreferrer", title: this.texts.say("location.mapHint") },
          this.texts.say("location.map"), icon("open"), hidden(` ${place}`))),
    );
  }

  #showProgress({ key, type, state, progress }) {
    const sending = type === "image" && state === "sending";
    if (!sending) {
      this.upload?.remove();
      this.upload = null;
      return;
    }
    if (!this.upload) {
      this.bar = h("progress", { max: 1 });
      this.cancel = h("button", {
        type: "button", class: "cancel", title: this.texts.say("message.cancel"), onclick: () => this.actions.cancel(key),
      }, icon("cross"), hidden(this.texts.say("message.cancelPhoto")));
      this.upload = h("div", { class: "upload" }, this.bar, this.cancel);
      this.bubble.append(this.upload);
    }
    this.bar.value = progress ?? 0;
    this.bar.setAttribute("aria-label", this.texts.say("message.uploading", { percent: this.texts.percent(progress ?? 0) }));
  }

  #showState({ key, type, state, error, created_at, mine }) {
    const say = (name) => this.texts.say(name);
    const date = new Date(created_at);
    const time = h("time", { datetime: created_at }, this.texts.time(date));
    const signs = { sending: ["clock", "message.sending"], sent: ["check", "message.sent"], failed: ["alert", "message.failed"] };
    const [sign, word] = signs[state];
    this.meta.replaceChildren(...(mine ? [state === "sent" ? time : say(word), icon(sign), state === "sent" ? hidden(say(word)) : ""] : [time]));
    this.trouble.hidden = state !== "failed";
    if (state !== "failed") return this.trouble.replaceChildren();
    this.trouble.replaceChildren(
      h("p", {}, error ? this.texts.error(error, type) : this.texts.say("error.unknown")),
      h("div", { class: "trouble-actions" },
        !error?.code.startsWith("photo_") && // there is nothing that could be sent
          h("button", { type: "button", class: "link", onclick: () => this.actions.retry(key) }, say("message.retry")),
        h("button", { type: "button", class: "link", onclick: () => this.actions.cancel(key) }, say("message.discard"))),
    );
  }
}
