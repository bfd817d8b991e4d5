// Images as pixels: what the browser can decode itself, brightness, thumbnails.

const LARGEST = 2048; // pixels; the longest side that is kept for looking
const THUMBNAIL = 88;

/** Say whether a browser can show a file itself: JPEG or PNG, by its first bytes. */
export async function isShowable(file) {
  const head = new Uint8Array(await file.slice(0, 4).arrayBuffer());
  const begins = (...bytes) => bytes.every((byte, i) => head[i] === byte);
  return begins(0xff, 0xd8, 0xff) || begins(0x89, 0x50, 0x4e, 0x47);
}

/** The Blob of a JPEG in base 64. */
export function fromBase64(text) {
  return new Blob([Uint8Array.from(atob(text), (character) => character.charCodeAt(0))], { type: "image/jpeg" });
}

/**
 * Decode an image to brightness, no larger than is looked at.
 * @param {Blob} blob
 * @returns {Promise<{width: number, height: number, gray: Uint8ClampedArray}>}
 */
export async function decode(blob) {
  const bitmap = await createImageBitmap(blob);
  const canvas = drawn(bitmap, Math.min(1, LARGEST / Math.max(bitmap.width, bitmap.height)));
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  const gray = new Uint8ClampedArray(width * height);
  for (let i = 0, j = 0; i < gray.length; i += 1, j += 4) {
    gray[i] = 0.299 * data[j] + 0.587 * data[j + 1] + 0.114 * data[j + 2]; // ITU-R BT.601, as the service has it
  }
  return { width, height, gray };
}

/** A small canvas of an image. */
export async function thumbnail(blob) {
  const bitmap = await createImageBitmap(blob);
  return drawn(bitmap, THUMBNAIL / Math.min(bitmap.width, bitmap.height));
}

function drawn(bitmap, scale) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillRect(0, 0, canvas.width, canvas.height); // what is transparent lies over black, as in the service
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas;
}

/** Paint brightness through a window: level and width in [0, 1] of the full range. */
export function paint(canvas, { width, height, gray }, { level = 0.5, span = 1, inverted = false } = {}) {
  const table = new Uint32Array(256);
  for (let value = 0; value < 256; value += 1) {
    const shown = Math.min(1, Math.max(0, (value / 255 - level) / span + 0.5));
    const byte = Math.round(255 * (inverted ? 1 - shown : shown));
    table[value] = 0xff000000 | (byte << 16) | (byte << 8) | byte;
  }
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < gray.length; i += 1) pixels[i] = table[gray[i]];
  canvas.getContext("2d").putImageData(image, 0, 0);
}
