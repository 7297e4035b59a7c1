/** Modal dialogs: what closing does, consent to share a place, and a photo in full size. Each goes away when it is done. */
import { busy, h, icon, isBusy } from "./dom.js";

let last = 0;

/**
 * @param {HTMLElement} frame where it is shown; the focus returns to where it was
 * @param {object} content
 * @param {string} content.title
 * @param {string} content.className
 * @param {Node[]} content.body
 */
function show(frame, { title, className, body, role = null }) {
  const id = `title-${++last}`;
  const dialog = h("dialog", { class: `dialog ${className}`, part: "dialog", "aria-labelledby": id, role },
    h("h2", { id, class: "dialog-title" }, title), ...body);
  dialog.onclick = (event) => event.target === dialog && dialog.close(); // the backdrop
  dialog.addEventListener("close", () => dialog.remove());
  frame.append(dialog);
  dialog.showModal();
  return dialog;
}

function points(texts, signs) {
  return h("ul", { class: "points" }, ...texts.map((text, index) => h("li", {}, icon(signs[index]), h("span", {}, text))));
}

/**
 * Says what closing does before it happens.
 * @param {import("./i18n.js").Texts} texts
 * @param {{unsent: number, close: () => Promise<void>}} what
 */
export function confirmClose(frame, texts, { unsent, close }) {
  const say = (key, values) => texts.say(key, values);
  const trouble = h("p", { class: "dialog-error", role: "alert" });
  const no = h("button", { type: "button", class: "button quiet", autofocus: true, onclick: () => dialog.close() }, say("close.no"));
  const yes = h("button", { type: "button", class: "button danger", onclick: act }, say("close.yes"));
  const lines = [say("close.all"), say("close.final"), say("close.receipt")];
  const dialog = show(frame, {
    title: say("close.title"),
    className: "confirm",
    role: "alertdialog",
    body: [
      points(lines, ["lock", "alert", "receipt"]),
      unsent > 0 && h("p", { class: "warning" }, say("close.unsent", { count: unsent })),
      trouble,
      h("div", { class: "dialog-actions" }, no, yes),
    ].filter(Boolean),
  });

  async function act() {
    if (isBusy(yes)) return;
    busy(yes, say("close.working"));
    trouble.textContent = "";
    try {
      await close();
      dialog.close();
    } catch (error) {
      trouble.textContent = texts.error(error);
      busy(yes, null);
    }
  }
}

const PATIENCE = { enableHighAccuracy: true, timeout: 20_000, maximumAge: 0 }; // milliseconds

/**
 * Asks before the position is read; only after a yes does the browser ask in its turn.
 * @param {import("./i18n.js").Texts} texts
 * @param {(place: {lat: number, lng: number}) => void} share
 */
export function askLocation(frame, texts, share) {
  const say = (key) => texts.say(key);
  const state = h("p", { class: "dialog-state", role: "status" });
  const no = h("button", { type: "button", class: "button quiet", onclick: () => dialog.close() }, say("consent.no"));
  const yes = h("button", { type: "button", class: "button", autofocus: true, onclick: find }, say("consent.yes"));
  const lines = [say("consent.once"), say("consent.who"), say("consent.erased")];
  const dialog = show(frame, {
    title: say("consent.title"),
    className: "consent",
    body: [points(lines, ["pin", "chat", "shield"]), state, h("div", { class: "dialog-actions" }, no, yes)],
  });

  function failed(key) {
    state.textContent = say(key);
    state.classList.add("dialog-error");
    busy(yes, null);
  }

  function find() {
    if (isBusy(yes)) return;
    if (!navigator.geolocation) return failed("consent.unsupported");
    busy(yes, say("consent.searching"));
    state.classList.remove("dialog-error");
    state.textContent = "";
    navigator.geolocation.getCurrentPosition(
      ({ coords }) => {
        if (!dialog.open) return; // thought better of it meanwhile
        dialog.close();
        share({ lat: coords.latitude, lng: coords.longitude });
      },
      (error) => failed(error.code === error.PERMISSION_DENIED ? "consent.denied" : "consent.unavailable"),
      PATIENCE,
    );
  }
}

/** @param {import("./i18n.js").Texts} texts @param {import("./photo-view.js").PhotoView} photo */
export function enlarge(frame, texts, photo) {
  const note = h("p", { hidden: true }, texts.say("photo.missing"));
  const image = h("img", { alt: photo.title, src: photo.source, onerror: renew });
  const close = h("button", { type: "button", class: "round", autofocus: true, "aria-label": texts.say("photo.close"), onclick: () => dialog.close() },
    icon("cross"));
  const dialog = show(frame, { title: texts.say("photo.title"), className: "large", body: [close, image, note] });

  async function renew() {
    await photo.renew();
    image.hidden = photo.missing;
    note.hidden = !photo.missing;
    if (!photo.missing) image.src = photo.source;
  }
}

/** Those that are open, when what they are about has ended. */
export function closeAll(frame) {
  for (const dialog of frame.querySelectorAll("dialog[open]")) dialog.close();
}
