/** One request with JSON in and out. */
import { ChatError } from "./errors.js";

const PATIENCE = 30_000; // milliseconds until a request without an answer counts as lost

/** What a status means where the answer is not ours: a proxy's page, for example. */
const CODES = {
  401: "unauthenticated",
  403: "forbidden",
  404: "not_found",
  413: "body_too_large",
  429: "rate_limited",
};

/**
 * @param {string} method
 * @param {string} url
 * @param {{body?: object, signal?: AbortSignal, user?: string | null}} [options] `user`: who must be logged in; the
 *   server refuses if it is somebody else by now
 * @returns {Promise<any>}
 * @throws {ChatError} for every answer but a success in JSON, and for none
 */
export async function call(method, url, { body, signal, user = null } = {}) {
  const stop = new AbortController();
  const giveUp = () => stop.abort();
  const timer = setTimeout(giveUp, PATIENCE);
  signal?.addEventListener("abort", giveUp);
  if (signal?.aborted) giveUp();
  try {
    const response = await fetch(url, {
      method,
      headers: {
        ...(body && { "Content-Type": "application/json" }),
        ...(user !== null && { "X-Chat-User": encodeURIComponent(user) }),
      },
      body: body && JSON.stringify(body),
      signal: stop.signal,
      cache: "no-store",
    });
    const text = await response.text();
    if (!response.ok) throw refusal(response.status, text, response.headers.get("Retry-After"));
    return JSON.parse(text); // a captive portal's success is a page
  } catch (error) {
    throw error instanceof ChatError ? error : new ChatError("network");
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", giveUp);
  }
}

/**
 * @param {number} status
 * @param {string} text the answer's body
 * @param {string | null} retryAfter the header: seconds
 */
export function refusal(status, text, retryAfter) {
  let answer = null;
  try {
    answer = JSON.parse(text);
  } catch {
    // not ours
  }
  const code = typeof answer?.code === "string" ? answer.code : (CODES[status] ?? "unavailable");
  const message = answer?.message ?? `The server answered ${status}.`;
  return new ChatError(code, { status, errors: answer?.errors ?? {}, retryAfter: Number(retryAfter) || 0, message });
}
