/** The elements' style sheets: files, because a strict content security policy allows no others (CSSOM, constructed sheets). */
const PAUSE = 2000; // milliseconds

async function load(name) {
  const address = new URL(name, import.meta.url);
  for (;;) {
    const response = await fetch(address).catch(() => null); // nobody is there to reload what a bad network lost
    if (response?.ok) {
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(await response.text());
      return sheet;
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
}

const loaded = new Map();

/** @param {string[]} names @returns {Promise<CSSStyleSheet[]>} each loaded once for all elements of the page */
export function sheets(...names) {
  return Promise.all(names.map((name) => {
    if (!loaded.has(name)) loaded.set(name, load(name));
    return loaded.get(name);
  }));
}
