/** Photos made ready to be sent: upright, of a sensible size, and without what the camera wrote (place, device, time). */
import { ChatError } from "./errors.js";

const LONGEST_SIDE = 2560; // pixels
const QUALITIES = [0.9, 0.8, 0.7, 0.55];
const SHRINKS = 6; // times by a third, until it is small enough

const SIGNATURES = {
  "image/jpeg": /^\xff\xd8\xff/,
  "image/png": /^\x89PNG\r\n\x1a\n/,
  "image/webp": /^RIFF[^]{4}WEBP/,
};

/**
 * Drawn anew, because only pixels can be trusted to hold no metadata.
 * @param {Blob} file anything that the browser can decode
 * @param {{imageTypes: string[], maxImageBytes: number}} limits what the server accepts
 * @returns {Promise<Blob>}
 * @throws {ChatError} `photo_unreadable` where it cannot be decoded, `photo_too_big` where it cannot be made to fit
 */
export async function preparePhoto(file, { imageTypes, maxImageBytes }) {
  const [picture, type] = await decode(file);
  try {
    const types = candidates(type, imageTypes);
    let scale = Math.min(1, LONGEST_SIDE / Math.max(picture.width, picture.height));
    for (let shrunk = 0; shrunk <= SHRINKS; shrunk++, scale *= 2 / 3) {
      const photo = await encode(picture, scale, types, maxImageBytes);
      if (photo) return photo;
    }
    throw new ChatError("photo_too_big");
  } finally {
    if ("close" in picture) picture.close(); // a bitmap holds its memory until then
  }
}

async function decode(file) {
  try {
    return await Promise.all([upright(file), typeOf(file)]);
  } catch {
    throw new ChatError("photo_unreadable"); // no picture, one that this browser does not know (HEIC), or gone from the disk
  }
}

/** @returns {Promise<ImageBitmap | HTMLImageElement>} turned as its EXIF says */
async function upright(file) {
  try {
    return await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
  }
  const image = new Image(); // browsers that do not know the option yet turn these
  const url = URL.createObjectURL(file);
  try {
    image.src = url;
    await image.decode();
    return image;
  } finally {
    URL.revokeObjectURL(url);
  }
}

// By its first bytes: names, and what browsers make of them, prove nothing.
async function typeOf(file) {
  const head = String.fromCharCode(...new Uint8Array(await file.slice(0, 12).arrayBuffer()));
  return Object.keys(SIGNATURES).find((type) => SIGNATURES[type].test(head));
}

// A screenshot stays sharp and a photo small; what cannot be sent as it is becomes what can.
function candidates(type, allowed) {
  const preferred = [type, "image/jpeg", "image/webp", "image/png"];
  return [...new Set(preferred)].filter((one) => allowed.includes(one));
}

async function encode(picture, scale, types, maxBytes) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(picture.width * scale));
  canvas.height = Math.max(1, Math.round(picture.height * scale));
  const context = canvas.getContext("2d");
  if (!context) throw new ChatError("photo_too_big"); // no memory for it
  context.imageSmoothingQuality = "high";
  for (const type of types) {
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (type === "image/jpeg") {
      context.fillStyle = "white"; // JPEG knows no transparency and would make it black
      context.fillRect(0, 0, canvas.width, canvas.height);
    }
    context.drawImage(picture, 0, 0, canvas.width, canvas.height);
    for (const quality of type === "image/png" ? [undefined] : QUALITIES) {
      const blob = await new Promise((resolve) => canvas.toBlob(resolve, type, quality));
      if (blob?.type !== type) break; // this browser cannot write it, as Safari cannot WebP
      if (blob.size <= maxBytes) return blob;
    }
  }
  return null;
}
