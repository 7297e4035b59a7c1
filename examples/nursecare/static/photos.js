// Photos on the page: previews, thumbnails that ask for a fresh address when theirs has expired, and the large view.
const RENEW_AFTER = 60_000; // milliseconds; an address lives for minutes, so asking more often would change nothing

const dialog = document.getElementById("large");
const large = dialog.querySelector("img");
const absent = dialog.querySelector("p");
const previews = new Set();
let shown = null; // the button whose photo is large

// The bubble of a photo that is on its way, with a picture that is on this machine only; its URL is in the `preview`.
export function unsent(file, oncancel) {
  const item = document.createElement("li");
  const picture = new Image();
  const progress = document.createElement("progress");
  const state = document.createElement("time");
  const cancel = document.createElement("button");
  const url = URL.createObjectURL(file);
  previews.add(url);
  item.className = "message mine";
  item.dataset.preview = picture.src = url;
  picture.className = "photo";
  picture.alt = `Photo “${file.name}”`;
  progress.value = 0;
  progress.setAttribute("aria-label", `Upload of “${file.name}”`);
  state.textContent = "sending…";
  cancel.type = "button";
  cancel.className = "quiet small";
  cancel.textContent = "Cancel";
  cancel.setAttribute("aria-label", `Cancel sending “${file.name}”`);
  cancel.onclick = oncancel;
  item.append(picture, progress, state, cancel);
  return {
    item,
    onprogress: (part) => { progress.value = part; },
    onuploaded: () => { cancel.disabled = true; }, // it may be posted from here on
  };
}

export function release(url) {
  URL.revokeObjectURL(url);
  previews.delete(url);
}

export function forgetAll() {
  previews.forEach(release);
  dialog.close();
  putAway();
}

// A button with the photo in a box of one size, so that nothing moves when it arrives; `before` is shown until then.
// `renew` gives a fresh address, or null.
export function thumbnail({ url, alt, renew, before }) {
  const button = document.createElement("button");
  const image = new Image();
  const note = document.createElement("span");
  let renewedAt = -Infinity;
  button.type = "button";
  button.className = "photo";
  button.setAttribute("aria-haspopup", "dialog");
  image.alt = alt;
  image.loading = "lazy";
  if (before) button.style.backgroundImage = `url("${before}")`;
  note.textContent = "Photo not available";
  button.append(image, note);
  note.hidden = true;

  function settle(missing) {
    button.classList.toggle("missing", missing);
    image.hidden = missing;
    note.hidden = !missing;
    button.style.backgroundImage = "";
    if (before) release(before);
  }

  async function again() {
    if (performance.now() - renewedAt < RENEW_AFTER) return settle(true);
    renewedAt = performance.now();
    const fresh = await renew().catch(() => null);
    if (!fresh) return settle(true);
    image.loading = "eager"; // a hidden picture is never near enough to be loaded lazily
    image.src = fresh;
    if (shown === button) large.src = fresh;
  }

  image.onload = () => settle(false);
  image.onerror = again;
  button.addEventListener("renew", again);
  button.onclick = () => (button.classList.contains("missing") ? again() : enlarge(button, image, again));
  if (url) image.src = url;
  else settle(true);
  return button;
}

// Those that are missing, perhaps because the network was away.
export function renewMissing(list) {
  list.querySelectorAll(".photo.missing").forEach((button) => button.dispatchEvent(new Event("renew")));
}

function enlarge(button, image, again) {
  shown = button;
  absent.hidden = true;
  large.hidden = false;
  large.alt = image.alt;
  large.onerror = async () => {
    await again();
    absent.hidden = !(large.hidden = button.classList.contains("missing"));
  };
  large.src = image.src;
  dialog.showModal();
}

function putAway() {
  shown = null;
  large.removeAttribute("src");
}

dialog.onclose = putAway;
dialog.onclick = (event) => {
  if (event.target === dialog) dialog.close(); // the backdrop
};
