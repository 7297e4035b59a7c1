/** Photos that were chosen, pasted or dropped, looked at before they are sent. */
import { h, hidden, icon } from "./dom.js";

export class Staging {
  #photos = new Set(); // {file, url, item}, in the order in which they were given

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
    const remove = h("button", { type: "button", class: "remove", onclick: () => this.#remove(photo, true) },
      icon("cross"), hidden(this.texts.say("compose.remove", { name: file.name })));
    const item = h("li", {}, image, remove);
    const photo = { file, url, item }; // the same file may be given twice
    this.#photos.add(photo);
    this.tray.append(item);
    this.#update();
    image.src = url;
    try {
      await image.decode();
    } catch {
      this.#remove(photo);
      const kinds = this.types.map((type) => type.split("/")[1].toUpperCase().replace("WEBP", "WebP"));
      const text = this.texts.say("compose.unreadable", { name: file.name, types: this.texts.either(kinds) });
      this.trouble.append(h("p", {}, text));
    }
  }

  #remove(photo, byHand = false) {
    if (!this.#photos.delete(photo)) return;
    const neighbour = photo.item.nextElementSibling ?? photo.item.previousElementSibling;
    URL.revokeObjectURL(photo.url);
    photo.item.remove();
    this.#update();
    if (byHand) neighbour?.querySelector("button").focus();
    if (byHand && !neighbour) this.onempty?.();
  }

  /** @returns {File[]} all of them; the tray is empty then */
  take() {
    const files = [...this.#photos].map(({ file }) => file);
    this.clear();
    return files;
  }

  clear() {
    this.trouble.replaceChildren();
    for (const photo of [...this.#photos]) this.#remove(photo);
  }

  #update() {
    this.tray.hidden = this.#photos.size === 0;
    this.changed();
  }
}
