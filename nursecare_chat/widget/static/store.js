/** Where the outbox is kept: IndexedDB, or memory where the browser has none or has no room. */

const NAME = "nursecare-chat";
const OUTBOX = "outbox";

/**
 * What waits to be sent.
 * @typedef {object} Entry
 * @property {string} key its `clientMessageId`
 * @property {string} owner whose it is
 * @property {number} thread
 * @property {number} order
 * @property {number} typedAt milliseconds since 1970
 * @property {{type: "text" | "image" | "location", text?: string, lat?: number, lng?: number}} body as it is posted;
 *   without the `mediaPath` of a photo
 * @property {Blob} [photo] ready to be uploaded
 * @property {import("./client.js").IssuedUpload} [issued]
 * @property {boolean} [uploaded]
 * @property {"sending" | "failed"} state
 * @property {ReturnType<import("./errors.js").ChatError["toJSON"]>} [error]
 */

/** @type {Promise<IDBDatabase> | null} */
let opened = null;

function database() {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore(OUTBOX, { keyPath: "key" }).createIndex("owner", "owner");
    };
    request.onerror = () => reject(request.error);
    request.onsuccess = () => {
      request.result.onversionchange = letGo;
      resolve(request.result);
    };
  });
  return opened;
}

// Browsers lose the connection now and then; the next use makes another.
function letGo() {
  opened?.then((connection) => connection.close(), () => {});
  opened = null;
}

async function transact(mode, work) {
  const transaction = (await database()).transaction(OUTBOX, mode);
  const request = work(transaction.objectStore(OUTBOX));
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve(request.result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}

export class Store {
  /** @type {Map<string, Entry>} */
  #memory = new Map();

  /** @param {string} owner @param {boolean} durable whether it may outlive the page */
  constructor(owner, durable) {
    this.owner = owner;
    this.durable = durable && typeof indexedDB !== "undefined";
  }

  /** Those of one thread, in the order in which they were typed. @returns {Promise<Entry[]>} */
  async all(thread) {
    const mine = await this.everything();
    return mine.filter((entry) => entry.thread === thread).sort((one, other) => one.order - other.order);
  }

  /** Those of all threads. @returns {Promise<Entry[]>} */
  async everything() {
    const kept = await this.#try("readonly", (outbox) => outbox.index("owner").getAll(this.owner));
    return [...(kept ?? []).filter(({ key }) => !this.#memory.has(key)), ...this.#memory.values()];
  }

  /** @param {Entry} entry */
  async put(entry) {
    if ((await this.#try("readwrite", (outbox) => outbox.put(entry))) !== null) this.#memory.delete(entry.key);
    else this.#memory.set(entry.key, entry);
  }

  /** Change an entry that is still there; one that was cancelled does not come back. @param {Entry} entry */
  async update(entry) {
    if (this.#memory.has(entry.key)) this.#memory.set(entry.key, entry);
    await this.#try("readwrite", (outbox) => {
      const there = outbox.getKey(entry.key);
      there.onsuccess = () => there.result !== undefined && outbox.put(entry);
      return there;
    });
  }

  /** @param {string} key */
  async remove(key) {
    this.#memory.delete(key);
    await this.#try("readwrite", (outbox) => outbox.delete(key));
  }

  // null where nothing can be kept: refused by the browser's settings, full, or gone.
  async #try(mode, work) {
    if (!this.durable) return null;
    try {
      return (await transact(mode, work)) ?? undefined;
    } catch {
      letGo();
      return null;
    }
  }
}
