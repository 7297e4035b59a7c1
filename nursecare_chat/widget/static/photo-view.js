/** A photo in a message: in a box of one size, so that nothing moves when it arrives, with a fresh address when its own expired. */
import { h, hidden, icon } from "./dom.js";

const RENEW_AFTER = 60_000; // milliseconds; an address lives for minutes, so asking more often would change nothing

export class PhotoView {
  #renewedAt = -Infinity;
  #source = "";
  #message = null;

  /**
   * @param {import("./i18n.js").Texts} texts
   * @param {{renew: (message: object) => Promise<string | null>, enlarge: (photo: PhotoView) => void}} actions
   */
  constructor(texts, actions) {
    this.texts = texts;
    this.actions = actions;
    this.image = h("img", { alt: "", loading: "lazy", decoding: "async", onload: () => this.#settle(false), onerror: () => this.renew() });
    this.note = h("span", { class: "photo-missing", hidden: true }, icon("photo"), texts.say("photo.missing"));
    this.label = hidden("");
    this.element = h(
      "button",
      { type: "button", class: "photo", part: "photo", "aria-haspopup": "dialog", onclick: () => this.#open() },
      this.image, this.note, this.label,
    );
  }

  get missing() {
    return this.element.classList.contains("missing");
  }

  get source() {
    return this.#source;
  }

  get title() {
    return this.label.textContent;
  }

  update(message) {
    const before = this.#message;
    this.#message = message;
    const time = this.texts.time(new Date(message.created_at));
    this.label.textContent = this.texts.say(message.mine ? "photo.sent" : "photo.received", { time });
    const source = message.preview ?? message.media_url;
    if (!source) this.#settle(true);
    else if (!before || this.missing || !this.#source) this.#show(source);
  }

  async renew() {
    if (performance.now() - this.#renewedAt < RENEW_AFTER) return this.#settle(true);
    this.#renewedAt = performance.now();
    const fresh = await this.actions.renew(this.#message).catch(() => null);
    if (!fresh) return this.#settle(true);
    this.image.loading = "eager"; // a hidden picture is never near enough to be loaded lazily
    this.#show(fresh);
  }

  #show(source) {
    this.#source = source;
    this.image.src = source;
  }

  #settle(missing) {
    this.element.classList.toggle("missing", missing);
    this.image.hidden = missing;
    this.note.hidden = !missing;
    this.label.hidden = missing;
  }

  #open() {
    if (this.missing) this.renew();
    else this.actions.enlarge(this);
  }
}
