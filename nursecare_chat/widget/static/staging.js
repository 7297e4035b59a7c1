/** Photos that were chosen, pasted or dropped, looked at before they are sent. */
import { h, hidden, icon } from "./dom.js";

export class Staging {
  #photos = new Map(); // File → its preview

  /**
   * @param {import("./i18n.js").Texts} texts
   * @param {string[]} types
   * @param {() => void} changed
   */
  constructor(texts, types, changed) {
    this.texts = texts;
    this.types = types;
    this.changed = changed;
    this.trouble = h("div", { class: "refused", role: "alert" });
    this.tray = h("ul", { class: "tray", "aria-label": texts.say("compose.staged"), hidden: true });
    this.element = h("div", { class: "staging" }, this.trouble, this.tray);
  }

  get count() {
    return this.#photos.size;
  }

  /** @param {Iterable<File>} files what the browser can show as a picture is kept, of the rest is said that it is none */
  async add(files) {
    this.trouble.replaceChildren();
    await Promise.all([...files].map((file) => this.#look(file)));
  }

  async #look(file) {
    const url = URL.createObjectURL(file);
    const image = h("img", { alt: "" });
    const remove = h("button", { type: "button", class: "remove", onclick: () => this.#remove(file, true) },
      icon("cross"), hidden(this.texts.say("compose.remove", { name: file.name })));
    const item = h("li", {}, image, remove);
    this.#photos.set(file, { url, item }); // in the order in which they were given, whichever is decoded first
    this.tray.append(item);
    this.#update();
    image.src = url;
    try {
      await image.decode();
    } catch {
      this.#remove(file);
      const kinds = this.types.map((type) => type.split("/")[1].toUpperCase().replace("WEBP", "WebP"));
      const text = this.texts.say("compose.unreadable", { name: file.name, types: this.texts.either(kinds) });
      this.trouble.append(h("p", {}, text));
    }
  }

  #remove(file, byHand = false) {
    const photo = this.#photos.get(file);
    if (!photo) return;
    const neighbour = photo.item.nextElementSibling ?? photo.item.previousElementSibling;
    URL.revokeObjectURL(photo.url);
    photo.item.remove();
    this.#photos.delete(file);
    this.#update();
    if (byHand) neighbour?.querySelector("button").focus();
    if (byHand && !neighbour) this.onempty?.();
  }

  /** @returns {File[]} all of them; the tray is empty then */
  take() {
    const files = [...this.#photos.keys()];
    this.clear();
    return files;
  }

  clear() {
    this.trouble.replaceChildren();
    for (const file of [...this.#photos.keys()]) this.#remove(file);
  }

  #update() {
    this.tray.hidden = this.#photos.size === 0;
    this.changed();
  }
}
