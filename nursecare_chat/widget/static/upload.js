/** A photo's way to the storage: ours, or Azure's at another origin (contract C24). */
import { ChatError } from "./errors.js";
import { refusal } from "./http.js";

const STALLED = 30_000; // milliseconds without progress after which an upload is given up

/**
 * XMLHttpRequest, because fetch does not tell how much has been sent.
 * @param {import("./client.js").IssuedUpload} issued
 * @param {ArrayBuffer} bytes
 * @param {{signal: AbortSignal, onprogress: (part: number) => void}} options
 * @returns {Promise<void>}
 * @throws {ChatError} `bad_signature` where the address expired
 */
export function put(issued, bytes, { signal, onprogress }) {
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
    request.onload = () => (request.status < 300 || isThere(request) ? resolve() : reject(refused(request)));
    request.onerror = request.onabort = () => reject(new ChatError("network"));
    request.onloadend = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", stop);
    };
    signal.addEventListener("abort", stop);
    request.send(bytes);
  });
}

// The photo is there; the answer to an earlier try was lost. To an address that may only create, Azure says so in XML
// with a 403: by the first of these names, Azurite by the second.
function isThere({ status, responseText }) {
  const said = /<Code>(UnauthorizedBlobOverwrite|AuthorizationPermissionMismatch)<\/Code>/;
  return status === 409 || (status === 403 && said.test(responseText));
}

function refused(request) {
  const { status, responseText, responseURL } = request;
  const foreign = new URL(responseURL || location.href).origin !== location.origin;
  // A storage of its own names an expired address in its own way; only the time can be wrong with what was given to us.
  if (status === 403 && foreign) return new ChatError("bad_signature", { status });
  return refusal(status, responseText, foreign ? null : request.getResponseHeader("Retry-After"));
}
