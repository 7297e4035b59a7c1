/** Builds elements and text nodes. Nothing here takes markup, so no text can become markup. */

/**
 * @param {string} name
 * @param {Record<string, unknown>} [properties] `onclick` and its like are handlers, all else attributes; `true` is an empty
 *   one, `null`, `undefined` and `false` none
 * @param {...(Node | string | null | undefined | false)} children
 * @returns {any} an HTMLElement
 */
export function h(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (typeof value === "function") element[key] = value;
    else setAttribute(element, key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** @param {Element} element */
export function setAttribute(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value === true ? "" : value)) {
    element.setAttribute(name, value === true ? "" : String(value));
  }
}

/** While it works, a button takes no second press. Not `disabled`: that would lose the focus of whoever pressed it. */
export function busy(button, text) {
  setAttribute(button, "aria-disabled", text === null ? null : "true");
  if (text !== null) {
    button.dataset.idle ??= button.textContent;
    button.textContent = text;
  } else if (button.dataset.idle) {
    button.textContent = button.dataset.idle;
  }
}

export const isBusy = (button) => button.getAttribute("aria-disabled") === "true";

/** Text for screen readers alone. */
export const hidden = (text) => h("span", { class: "visually-hidden" }, text);

const SVG = "http://www.w3.org/2000/svg";

// On a grid of 24 × 24, drawn by a stroke.
const ICONS = {
  send: "M5 12h13 M12 5l7 7-7 7",
  photo: "M4 5h16a1 1 0 0 1 1 1v12a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1V6a1 1 0 0 1 1-1Z M3.5 16.5l5-5 4.5 4.5 2.5-2.5 5 5 M15.5 9.5h.01",
  camera: "M4 7.5h3.4L9 5h6l1.6 2.5H20a1 1 0 0 1 1 1V18a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1V8.5a1 1 0 0 1 1-1Z M12 16.3a3.4 3.4 0 1 0 0-6.8 3.4 3.4 0 0 0 0 6.8Z",
  pin: "M12 21s-7-6.2-7-11.3a7 7 0 0 1 14 0C19 14.8 12 21 12 21Z M12 12.4a2.6 2.6 0 1 0 0-5.2 2.6 2.6 0 0 0 0 5.2Z",
  cross: "M6 6l12 12 M18 6L6 18",
  check: "M5 12.5l4.5 4.5L19 7.5",
  clock: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18Z M12 7.5V12l3 2",
  alert: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18Z M12 7.5v5.5 M12 16.3h.01",
  shield: "M12 3l7.5 2.8v5.4c0 4.7-3.2 8.1-7.5 9.8-4.3-1.7-7.5-5.1-7.5-9.8V5.8L12 3Z M8.8 12l2.3 2.3 4.3-4.3",
  down: "M12 5v13 M6 12.5l6 6 6-6",
  back: "M14.5 5l-7 7 7 7",
  chat: "M5 5h14a1.5 1.5 0 0 1 1.5 1.5v9A1.5 1.5 0 0 1 19 17h-7l-4.5 3.5V17H5a1.5 1.5 0 0 1-1.5-1.5v-9A1.5 1.5 0 0 1 5 5Z M8 9.5h8 M8 12.8h5",
  lock: "M6.5 10.5h11a1 1 0 0 1 1 1V19a1 1 0 0 1-1 1h-11a1 1 0 0 1-1-1v-7.5a1 1 0 0 1 1-1Z M8.5 10.5V8a3.5 3.5 0 0 1 7 0v2.5",
  offline: "M3 3l18 18 M5 12.3a10 10 0 0 1 4.2-2.4 M14 9.6a10 10 0 0 1 5 2.7 M8.5 15.8a5 5 0 0 1 6.2-.6 M12 19.2h.01",
  inbox: "M4 13l2.5-8h11L20 13v5a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1v-5Z M4 13h4.5l1.2 2.5h4.6L15.5 13H20",
  receipt: "M6 3.5h12v17l-2.4-1.6-1.8 1.6-1.8-1.6-1.8 1.6-1.8-1.6L6 20.5v-17Z M9.5 8.5h5 M9.5 12h5",
  open: "M13 5h6v6 M19 5l-8 8 M17 14v4a1 1 0 0 1-1 1H6a1 1 0 0 1-1-1V8a1 1 0 0 1 1-1h4",
};

/** @param {keyof typeof ICONS} name */
export function icon(name, className = "icon") {
  const svg = document.createElementNS(SVG, "svg");
  for (const [key, value] of Object.entries({ viewBox: "0 0 24 24", class: className, "aria-hidden": "true", focusable: "false" })) {
    svg.setAttribute(key, value);
  }
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}
