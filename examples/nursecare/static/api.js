// The chat's API, and steps that are tried again while the network or the server is away.
const PATIENCE = 60_000; // milliseconds until a request without an answer counts as lost
const LONGEST_PAUSE = 15_000;

// How many steps wait to be tried again; `onchange` is for whoever tells the person.
export const trouble = {
  count: 0,
  onchange() {},
  add(difference) {
    this.count += difference;
    this.onchange();
  },
};

export async function call(method, path, body, signal) {
  const patience = AbortSignal.timeout(PATIENCE);
  const response = await fetch(path, {
    method,
    headers: body ? { "Content-Type": "application/json" } : {},
    body: body && JSON.stringify(body),
    signal: signal ? AbortSignal.any([signal, patience]) : patience,
  });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw refusal(response.status, answer, response.headers.get("Retry-After"));
  return answer;
}

export function refusal(status, { code, message, errors } = {}, retryAfter) {
  const reasons = Object.values(errors ?? {}).flat().join(" ");
  return Object.assign(new Error(reasons || message || `The server answered ${status}.`), {
    status,
    code,
    retryAfter: Number(retryAfter) || 0, // seconds
  });
}

// Runs `step` until it succeeds or its refusal is final: an answer that says no will say no again.
export async function insist(step, signal) {
  let troubled = false;
  try {
    for (let pause = 1000; ; pause = Math.min(pause * 2, LONGEST_PAUSE)) {
      signal.throwIfAborted();
      try {
        return await step();
      } catch (error) {
        if (signal.aborted || isFinal(error)) throw error;
        if (!troubled) trouble.add(1);
        troubled = true;
        await rest(Math.max(pause, (error.retryAfter ?? 0) * 1000), signal);
      }
    }
  } finally {
    if (troubled) trouble.add(-1);
  }
}

function isFinal({ status, code }) {
  return status === 501 || (status >= 400 && status < 500 && code !== "rate_limited");
}

// A pause that ends early when the network is back, or nobody wants the step any more.
function rest(milliseconds, signal) {
  return new Promise((resolve) => {
    const over = () => {
      clearTimeout(timer);
      removeEventListener("online", over);
      signal.removeEventListener("abort", over);
      resolve();
    };
    const timer = setTimeout(over, milliseconds);
    addEventListener("online", over);
    signal.addEventListener("abort", over);
  });
}
