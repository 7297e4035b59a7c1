// From a chosen file to a stored photo: looked at first, then uploaded, each step tried again on a bad network.
import { call, insist, refusal } from "./api.js";

const STALLED = 30_000; // milliseconds without progress after which an upload begins again
const ADDRESSES = 3; // that one photo may use up

const SIGNATURES = {
  "image/jpeg": /^\xff\xd8\xff/,
  "image/png": /^\x89PNG\r\n\x1a\n/,
  "image/webp": /^RIFF[^]{4}WEBP/,
};

// What the file is by its first bytes, as the server sees it; names and what browsers make of them prove nothing.
export async function typeOf(file) {
  const head = String.fromCharCode(...new Uint8Array(await file.slice(0, 12).arrayBuffer()));
  return Object.keys(SIGNATURES).find((type) => SIGNATURES[type].test(head));
}

// Why the file cannot be sent, before any of it is; nothing if it can.
export function objection(file, type, limits) {
  if (!limits.types.includes(type)) return `“${file.name}” is not a ${kinds(limits.types)} photo.`;
  if (file.size > limits.bytes) {
    return `“${file.name}” is too big: it has ${inUnits(file.size)}, and a photo may have ${inUnits(limits.bytes)}.`;
  }
}

// The mediaPath of the stored photo.
export async function upload(thread, file, type, { signal, onprogress }) {
  const body = await file.arrayBuffer(); // what cannot be read is said at once, not taken for a bad network
  for (let used = 1; ; used++) {
    const path = `/api/chat/threads/${thread}/uploads`;
    const issued = await insist(() => call("POST", path, { contentType: type, size: file.size }, signal), signal);
    try {
      await insist(() => put(issued, body, signal, onprogress), signal);
      return issued.mediaPath;
    } catch (error) {
      if (error.status !== 403 || used === ADDRESSES) throw error; // 403: the address expired meanwhile
    }
  }
}

// What an answer that is final means to the person.
export function inWords(error, file, limits) {
  if (error.name === "NotReadableError" || error.name === "NotFoundError") return `“${file.name}” cannot be read.`;
  if (error.status === 415) return `“${file.name}” is not a ${kinds(limits.types)} photo.`;
  if (error.code === "too_many_uploads") {
    const minutes = Math.ceil(error.retryAfter / 60) || 1;
    const later = minutes === 1 ? "a minute" : `${minutes} minutes`;
    return `“${file.name}” was not sent: too many photos are under way. Try again in ${later}.`;
  }
  return `“${file.name}” was not sent. ${error.message}`;
}

// XMLHttpRequest, because fetch does not tell how much has been sent.
function put(issued, body, signal, onprogress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    let timer = setTimeout(stop, STALLED);
    request.open(issued.method, issued.uploadUrl);
    for (const [name, value] of Object.entries(issued.headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded, total }) => {
      clearTimeout(timer);
      timer = setTimeout(stop, STALLED);
      onprogress(loaded / total);
    };
    request.onload = () => {
      if (request.status < 300 || isThere(request)) resolve();
      else reject(refusal(request.status, answerOf(request), request.getResponseHeader("Retry-After")));
    };
    request.onerror = request.onabort = () => reject(new Error("The network failed."));
    request.onloadend = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", stop);
    };
    signal.addEventListener("abort", stop);
    request.send(body);
  });
}

// The photo is there; the answer to an earlier try was lost. To an address that may only create, Azure says so in XML
// with a 403: by the first of these names, Azurite by the second.
function isThere({ status, responseText }) {
  const said = /<Code>(UnauthorizedBlobOverwrite|AuthorizationPermissionMismatch)<\/Code>/;
  return status === 409 || (status === 403 && said.test(responseText));
}

function answerOf(request) {
  try {
    return JSON.parse(request.responseText);
  } catch {
    return {}; // a cloud's storage answers in XML
  }
}

function kinds(types) {
  const names = types.map((type) => type.split("/")[1].toUpperCase().replace("WEBP", "WebP"));
  return new Intl.ListFormat("en-GB", { type: "disjunction" }).format(names);
}

function inUnits(bytes) {
  const [unit, name] = bytes < 2 ** 20 ? [2 ** 10, "KB"] : [2 ** 20, "MB"];
  return `${(bytes / unit).toLocaleString("en", { maximumFractionDigits: 1 })} ${name}`;
}
