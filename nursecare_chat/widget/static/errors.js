/** What went wrong, by a code that a catalogue has words for. */
export class ChatError extends Error {
  /**
   * @param {string} code the server's (contract C12), or `network`, `photo_unreadable`, `photo_too_big`,
   *   `photo_storage_away`
   * @param {{status?: number, errors?: Record<string, string[]>, retryAfter?: number, message?: string}} [more]
   *   `status` 0: there was no answer; `retryAfter` in seconds, 0 where nothing was said
   */
  constructor(code, { status = 0, errors = {}, retryAfter = 0, message = code } = {}) {
    super(message);
    this.name = "ChatError";
    this.code = code;
    this.status = status;
    this.errors = errors;
    this.retryAfter = retryAfter;
  }

  /** Whether this refusal ends a conversation's reading: the login, the right or the chat itself is missing. */
  get denies() {
    return [401, 403, 404, 501].includes(this.status);
  }

  /** As plain data, for the outbox. */
  toJSON() {
    const { code, status, errors, retryAfter, message } = this;
    return { code, status, errors, retryAfter, message };
  }

  /** @param {ReturnType<ChatError["toJSON"]>} data */
  static from(data) {
    return new ChatError(data.code, data);
  }
}
