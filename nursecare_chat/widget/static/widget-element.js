/** What both elements have in common: shadow root, language, colours, the client, and what is said to screen readers. */
import { h } from "./dom.js";
import { addCatalogue, Texts } from "./i18n.js";
import { ChatClient } from "./nursecare-chat.js";
import { sheets } from "./styles.js";

const BURST = 700; // milliseconds within which announcements are said as one
const LONGEST = 160; // characters that are read aloud by themselves

export class WidgetElement extends HTMLElement {
  /** Attributes after whose change the element begins anew, and those after which it is drawn again. */
  static restarting = ["user", "base", "max-text", "max-image-bytes", "image-types"];
  static redrawing = ["lang", "theme"];
  static sheets = ["theme.css"];
  static addCatalogue = addCatalogue;

  static get observedAttributes() {
    return [...this.restarting, ...this.redrawing];
  }

  #running = false;
  #dark = matchMedia("(prefers-color-scheme: dark)");
  #paint = () => this.#setScheme();
  #announcements = [];
  #announcing = 0;

  constructor() {
    super();
    this.attachShadow({ mode: "open" });
  }

  async connectedCallback() {
    this.#dark.addEventListener("change", this.#paint);
    this.shadowRoot.adoptedStyleSheets = await sheets(...this.constructor.sheets);
    if (this.isConnected && !this.#running) this.#begin();
  }

  disconnectedCallback() {
    this.#dark.removeEventListener("change", this.#paint);
    if (this.#running) {
      this.hush();
      this.end();
    }
    this.#running = false;
  }

  attributeChangedCallback(name, before, after) {
    if (before === after || !this.#running) return;
    if (this.constructor.redrawing.includes(name)) {
      this.#draw();
    } else {
      this.end();
      this.#begin();
    }
  }

  #begin() {
    this.#running = true;
    const number = (name) => Number(this.getAttribute(name)) || undefined;
    this.client = new ChatClient({
      base: this.getAttribute("base") ?? "",
      user: this.getAttribute("user"),
      imageTypes: this.getAttribute("image-types")?.split(","),
      maxImageBytes: number("max-image-bytes"),
      maxText: number("max-text"),
    });
    this.prepare();
    this.#draw();
    this.begin();
  }

  #draw() {
    this.texts = new Texts(this.lang || this.parentElement?.closest("[lang]")?.lang || navigator.language);
    this.announcer = h("div", { class: "visually-hidden", "aria-live": "polite" });
    this.frame = h("div", { class: "frame", part: "frame", lang: this.texts.language, dir: this.texts.direction });
    this.#setScheme();
    this.frame.append(...this.draw(), this.announcer);
    this.shadowRoot.replaceChildren(this.frame);
    this.drawn();
  }

  #setScheme() {
    const wanted = this.getAttribute("theme");
    const dark = wanted === "dark" || (wanted !== "light" && this.#dark.matches);
    this.frame?.setAttribute("data-scheme", dark ? "dark" : "light");
  }

  /** A text in the element's language. */
  say(key, values) {
    return this.texts.say(key, values);
  }

  /** Have `text` read aloud when there is time; of several at once only `summary` of their number. */
  announce(text, summary) {
    this.#announcements.push(text);
    clearTimeout(this.#announcing);
    this.#announcing = setTimeout(() => {
      const [first, ...more] = this.#announcements.splice(0);
      const said = more.length ? summary(more.length + 1) : first;
      this.announcer.replaceChildren(h("p", {}, said.length > LONGEST ? `${said.slice(0, LONGEST)}…` : said));
    }, BURST);
  }

  /** Nothing that was said, or was about to be, stays. */
  hush() {
    clearTimeout(this.#announcing);
    this.#announcements = [];
    this.announcer.replaceChildren();
  }

  /** Tell the host: an event that leaves the shadow root. @returns {boolean} false if the host took it over */
  tell(name, detail, cancelable = false) {
    return this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true, cancelable }));
  }

  // -- what an element fills in: its state before it is drawn, its nodes, what then follows from its state, its start and end

  prepare() {}

  draw() {
    return [];
  }

  drawn() {}

  begin() {}

  end() {}
}
