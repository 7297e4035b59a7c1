/** Waiting between tries. */

/** Milliseconds before try `attempt` (0, 1, …): doubling from one second to fifteen, with jitter against stampedes. */
export function backoff(attempt) {
  return Math.min(1000 * 2 ** attempt, 15_000) * (0.5 + Math.random() / 2);
}

/**
 * A pause that ends early when the network is back, or `wake` is dispatched an event of that name.
 * @param {number} milliseconds
 * @param {AbortSignal} signal ends it too; look at it afterwards
 * @param {EventTarget} [waker] an event "wake" there ends it
 * @returns {Promise<void>}
 */
export function pause(milliseconds, signal, waker = undefined) {
  return new Promise((resolve) => {
    const over = () => {
      clearTimeout(timer);
      removeEventListener("online", over);
      waker?.removeEventListener("wake", over);
      signal.removeEventListener("abort", over);
      resolve();
    };
    const timer = setTimeout(over, milliseconds);
    addEventListener("online", over);
    waker?.addEventListener("wake", over);
    signal.addEventListener("abort", over);
    if (signal.aborted) over();
  });
}
