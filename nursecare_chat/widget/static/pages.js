/** What an element shows in place of messages: before the start, after the end, and where there is no access. */
import { busy, h, icon, isBusy } from "./dom.js";

/** @param {import("./i18n.js").Texts} texts @param {() => Promise<void>} open */
export function startPage(texts, open) {
  const trouble = h("p", { class: "page-error", role: "alert" });
  const button = h("button", { type: "button", class: "button", onclick: act }, texts.say("start.button"));

  async function act() {
    if (isBusy(button)) return;
    busy(button, texts.say("start.opening"));
    trouble.textContent = "";
    try {
      await open();
    } catch (error) {
      trouble.textContent = texts.error(error);
      busy(button, null);
    }
  }

  return h("div", { class: "page start", part: "start" },
    icon("chat", "icon emblem"),
    h("h3", {}, texts.say("start.title")),
    h("p", {}, texts.say("start.text")),
    button, trouble,
    h("p", { class: "fine" }, icon("shield"), h("span", {}, texts.say("start.erased"))));
}

/** @param {import("./i18n.js").Texts} texts @param {import("./errors.js").ChatError} error */
export function deniedPage(texts, error) {
  return h("div", { class: "page denied", part: "denied" },
    icon("lock", "icon emblem"),
    h("h3", {}, texts.say("denied.title")),
    h("p", {}, texts.error(error ?? { code: "unknown" })),
    h("button", { type: "button", class: "button quiet", onclick: () => location.reload() }, texts.say("denied.reload")));
}

/**
 * @param {import("./i18n.js").Texts} texts
 * @param {{closedAt: string | null, receipt: object | null, address: string}} end `address` of the receipt
 */
export function closedPage(texts, { closedAt, receipt, address }) {
  const say = (key, values) => texts.say(key, values);
  const moment = (time) => texts.moment(new Date(time));
  const stamp = (key, time) => h("p", { class: "stamp" }, say(key, { time: moment(time) }));
  const erased = receipt?.purgedAt;
  const troubled = ["stalled", "blocked"].includes(receipt?.state);
  return h("div", { class: `page closed ${erased ? "erased" : "erasing"}`, part: "closed" },
    icon(erased ? "shield" : "lock", "icon emblem"),
    h("h3", {}, say("closed.title")),
    closedAt && stamp("closed.at", closedAt),
    h("div", { role: "status" },
      erased ? stamp("closed.erased", erased) : h("p", { class: "stamp" }, say(troubled ? "closed.stalled" : "closed.erasing")),
      erased && h("p", {}, say("closed.nothing"))),
    erased && h("details", { class: "receipt" },
      h("summary", {}, icon("receipt"), say("closed.receipt")),
      h("ul", {},
        h("li", {}, say("closed.rows", { count: receipt.rowsRedacted ?? 0 })),
        h("li", {}, say("closed.photos", { count: receipt.blobsDeleted ?? 0 })),
        h("li", {}, receipt.signature ? say("closed.signed", { time: moment(receipt.settledAt) }) : say("closed.unsigned"))),
      h("a", { href: address, download: `receipt-${receipt.threadId}.json` }, say("closed.download"))));
}
