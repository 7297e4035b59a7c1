/** Texts, numbers, times and plurals in one language (ECMA-402). */
import ar from "./catalogue-ar.js";
import en from "./catalogue-en.js";

const catalogues = new Map([["en", en], ["ar", ar]]);

/**
 * Adds a language, or replaces texts of one: `addCatalogue("fr", {direction: "ltr", "chat.title": "Discussion", …})`. What it
 * does not have stays English. Elements that are shown already take it at their next drawing.
 * @param {string} language a BCP 47 tag, such as "fr" or "pt-BR"
 * @param {Record<string, string | Record<string, string>>} catalogue
 */
export function addCatalogue(language, catalogue) {
  const key = language.toLowerCase();
  catalogues.set(key, { ...catalogues.get(key), ...catalogue });
}

/** "pt-BR" finds itself, else "pt", else English; "pt_BR" is what locales are called on servers. */
function find(wanted) {
  const language = wanted.replaceAll("_", "-");
  const parts = isTag(language) ? language.toLowerCase().split("-") : [];
  for (; parts.length; parts.pop()) {
    if (catalogues.has(parts.join("-"))) return { language, catalogue: catalogues.get(parts.join("-")) };
  }
  return { language: "en", catalogue: en };
}

function isTag(language) {
  try {
    return Intl.getCanonicalLocales(language).length === 1;
  } catch {
    return false; // "en-US.UTF-8", say: Intl would refuse it, and nothing be shown
  }
}

export class Texts {
  /** @param {string} wanted a BCP 47 tag; of one without a catalogue English is left */
  constructor(wanted) {
    const { language, catalogue } = find(wanted);
    this.language = language;
    this.direction = catalogue.direction ?? "ltr";
    this.#catalogue = catalogue;
    this.#plurals = new Intl.PluralRules(language);
    this.#numbers = new Intl.NumberFormat(language);
  }

  #catalogue;
  #plurals;
  #numbers;

  has(key) {
    return key in this.#catalogue || key in en;
  }

  /** @param {string} key @param {Record<string, string | number>} [values] for `{name}` in the text */
  say(key, values = {}) {
    let text = this.#catalogue[key] ?? en[key];
    if (typeof text === "object") text = text[this.#plurals.select(Number(values.count))] ?? text.other;
    return text.replace(/\{(\w+)\}/g, (whole, name) => {
      const value = values[name];
      return typeof value === "number" ? this.#numbers.format(value) : (value ?? whole);
    });
  }

  /** What an error means to the person. @param {{code: string}} error @param {string} [type] of the message */
  error({ code }, type) {
    if (type === "image" && code === "validation_failed") return this.say("error.photo_refused");
    return this.say(this.has(`error.${code}`) ? `error.${code}` : "error.unknown");
  }

  /** @param {Date} date */
  time(date) {
    return this.#format(date, { timeStyle: "short" });
  }

  moment(date) {
    return this.#format(date, { dateStyle: "long", timeStyle: "short" });
  }

  day(date, now = new Date()) {
    const days = Math.round((midnight(now) - midnight(date)) / 86_400_000);
    if (days === 0) return this.say("chat.today");
    if (days === 1) return this.say("chat.yesterday");
    const year = date.getFullYear() === now.getFullYear() ? undefined : "numeric";
    return this.#format(date, { weekday: "long", day: "numeric", month: "long", year });
  }

  /** As short as a list needs it: the time today, else the day. */
  brief(date, now = new Date()) {
    if (midnight(now) === midnight(date)) return this.time(date);
    return this.#format(date, { day: "numeric", month: "short" });
  }

  number(count) {
    return this.#numbers.format(count);
  }

  percent(part) {
    return new Intl.NumberFormat(this.language, { style: "percent" }).format(part);
  }

  /** @param {string[]} items */
  either(items) {
    return new Intl.ListFormat(this.language, { type: "disjunction" }).format(items);
  }

  #format(date, options) {
    return new Intl.DateTimeFormat(this.language, options).format(date);
  }
}

function midnight(date) {
  return new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();
}
