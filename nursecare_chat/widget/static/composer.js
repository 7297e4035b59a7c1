/** Where messages are written: text, photos from picker, camera, clipboard and drag, and the way to share a place. */
import { h, hidden, icon } from "./dom.js";
import { Staging } from "./staging.js";

const NEAR = 200; // characters left that are worth saying

export class Composer {
  /**
   * @param {import("./i18n.js").Texts} texts
   * @param {{imageTypes: string[], maxText: number}} limits
   * @param {{text: (text: string) => void, photo: (file: File) => void, locate: () => void}} send
   */
  constructor(texts, limits, send) {
    const say = (key) => texts.say(key);
    this.texts = texts;
    this.limits = limits;
    this.send = send;
    this.staging = new Staging(texts, limits.imageTypes, () => this.#update());
    this.staging.onempty = () => this.focus();
    this.text = h("textarea", {
      rows: 1, dir: "auto", enterkeyhint: "send", "aria-label": say("compose.label"), placeholder: say("compose.placeholder"), part: "input",
      oninput: () => this.#update(), onkeydown: (event) => this.#key(event), onpaste: (event) => this.#paste(event),
    });
    this.counter = h("span", { class: "counter" });
    this.over = h("span", { class: "visually-hidden", "aria-live": "polite" });
    this.button = h("button", { class: "send", part: "send" }, icon("send", "icon flip"), hidden(say("compose.send")));
    const touch = matchMedia("(pointer: coarse)").matches;
    this.element = h("form", { class: "composer", part: "composer", novalidate: true, onsubmit: (event) => this.#submit(event) },
      this.staging.element,
      h("div", { class: "box" },
        this.text,
        h("div", { class: "tools", role: "group", "aria-label": say("compose.tools") },
          touch && this.#picker("camera", say("compose.camera"), { accept: "image/*", capture: "environment" }),
          this.#picker("photo", say("compose.photo"), { accept: limits.imageTypes.join(","), multiple: true }),
          h("button", { type: "button", class: "tool", title: say("compose.location"), onclick: () => send.locate() },
            icon("pin"), hidden(say("compose.location"))),
          h("span", { class: "hint" }, icon("lock"), h("span", {}, say("compose.private"))),
          this.counter, this.over, this.button)));
    this.#update();
  }

  #picker(sign, label, attributes) {
    const input = h("input", { type: "file", "aria-label": label, title: label, ...attributes });
    input.onchange = () => {
      const files = [...input.files];
      input.value = ""; // so that the same one can be chosen again
      this.add(files);
    };
    return h("span", { class: "tool" }, icon(sign), input);
  }

  /** @param {Iterable<File>} files */
  async add(files) {
    await this.staging.add(files);
    this.focus();
  }

  focus() {
    this.text.focus({ preventScroll: true });
  }

  /** What is written but not sent, to be carried over when the element is drawn anew. */
  get draft() {
    return this.text.value;
  }

  set draft(text) {
    this.text.value = text;
    this.#update();
  }

  get #left() {
    return this.limits.maxText - [...this.text.value].length; // as the server counts
  }

  #update() {
    const left = this.#left;
    const worthSaying = left < Math.min(NEAR, this.limits.maxText / 10);
    const text = worthSaying ? this.texts.say(left < 0 ? "compose.over" : "compose.left", { count: Math.abs(left) }) : "";
    this.counter.textContent = text;
    this.counter.classList.toggle("over", left < 0);
    if (left >= 0) this.over.textContent = "";
    else if (!this.over.textContent) this.over.textContent = text; // said once, not at every key
    // Never disabled: that would take the button out of the order of focus while somebody is on it.
    this.button.classList.toggle("idle", left < 0 || !(this.text.value.trim() || this.staging.count));
    this.#grow();
  }

  #grow() {
    if (CSS.supports("field-sizing", "content")) return;
    this.text.style.blockSize = "auto";
    this.text.style.blockSize = `${this.text.scrollHeight}px`;
  }

  #key(event) {
    // 229: Safari ends a composition before this event (UI Events, 5.2.5.1).
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    this.element.requestSubmit();
  }

  #paste(event) {
    const { files, types } = event.clipboardData;
    if (!files.length || types.includes("text/plain")) return; // office programs put a picture beside a text
    event.preventDefault();
    this.add([...files]);
  }

  #submit(event) {
    event.preventDefault();
    const text = this.text.value;
    if (this.#left < 0) return this.focus();
    for (const file of this.staging.take()) this.send.photo(file);
    if (text.trim()) this.send.text(text);
    this.text.value = "";
    this.#update();
    this.focus();
  }

  /** Let go of what is not sent: the chat is over. */
  clear() {
    this.staging.clear();
    this.draft = "";
  }
}
