// Images as values: what the browser decodes itself, what the service decodes with all bits, windows, thumbnails.

import { decodePng16 } from "./png16.js";

const LARGEST = 4096; // pixels; the longest side that is kept for looking
const THUMBNAIL = 88;

/**
 * An image as numbers; a pixel's value is `slope * code + intercept`.
 * @typedef {object} Picture
 * @property {number} width
 * @property {number} height
 * @property {Uint8Array | Uint16Array} codes
 * @property {number} slope
 * @property {number} intercept
 * @property {string} unit  of the values, or nothing
 * @property {number[] | null} curve  how bright the detector sees codes from 0 to `most`; null where a window shows it
 * @property {boolean} inverted  whether small values are bright
 * @property {{name: string, center: number, width: number}[]} windows  the file's own
 * @property {[number, number] | null} spacing  height and width of a pixel in mm
 * @property {number} most  the largest code
 */

/** Say whether a browser shows a file itself with all its bits: JPEG, or PNG of 8 bits, by its first bytes. */
export async function isShowable(file) {
  const head = new Uint8Array(await file.slice(0, 25).arrayBuffer());
  const begins = (...bytes) => bytes.every((byte, i) => head[i] === byte);
  return begins(0xff, 0xd8, 0xff) || (begins(0x89, 0x50, 0x4e, 0x47) && head[24] <= 8);
}

const bytesOf = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

/** The Blob of a JPEG in base 64. */
export const fromBase64 = (text) => new Blob([bytesOf(text)], { type: "image/jpeg" });

/** Decode what the browser shows itself. @returns {Promise<Picture>} */
export async function decode(blob) {
  const bitmap = await createImageBitmap(blob);
  const canvas = drawn(bitmap, Math.min(1, LARGEST / Math.max(bitmap.width, bitmap.height)));
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  const codes = new Uint8Array(width * height);
  for (let i = 0, j = 0; i < codes.length; i += 1, j += 4) {
    codes[i] = Math.round(0.299 * data[j] + 0.587 * data[j + 1] + 0.114 * data[j + 2]); // ITU-R BT.601, as the service has it
  }
  return { width, height, codes, slope: 1, intercept: 0, unit: "", curve: null, inverted: false, windows: [], spacing: null, most: 255 };
}

/** Decode what the service gives of a file that the browser cannot show with all its bits. @returns {Promise<Picture>} */
export async function decodeValues({ png, ...described }) {
  const { width, height, codes } = await decodePng16(bytesOf(png));
  let most = 1;
  for (let i = 0; i < codes.length; i += 1) if (codes[i] > most) most = codes[i];
  return { ...described, width, height, codes, most };
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

/**
 * Paint an image through a window, or as the detector sees it.
 * @param {HTMLCanvasElement} canvas
 * @param {Picture} picture
 * @param {{center: number, width: number, inverted: boolean} | {curve: true, inverted: boolean}} view  in the values' units
 */
export function paint(canvas, picture, view) {
  const { width, height, codes } = picture;
  const table = new Uint32Array(picture.most + 1);
  for (let code = 0; code <= picture.most; code += 1) {
    const shown = brightness(picture, view, code);
    const byte = Math.round(255 * (view.inverted ? 1 - shown : shown));
    table[code] = 0xff000000 | (byte << 16) | (byte << 8) | byte;
  }
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < codes.length; i += 1) pixels[i] = table[codes[i]];
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function brightness({ slope, intercept, curve, inverted, most }, view, code) {
  if (view.curve) {
    const place = (code / most) * (curve.length - 1);
    const below = Math.min(curve.length - 1, Math.floor(place));
    const above = Math.min(curve.length - 1, below + 1);
    return curve[below] + (curve[above] - curve[below]) * (place - below);
  }
  const shown = Math.min(1, Math.max(0, (slope * code + intercept - view.center) / view.width + 0.5));
  return inverted ? 1 - shown : shown;
}

/** The value at a pixel, in the file's own units. */
export const valueAt = ({ codes, width, slope, intercept }, x, y) => slope * codes[y * width + x] + intercept;

/**
 * The windows that a person can choose: as read, the file's own, and shares of its values.
 * @param {Picture} picture
 * @returns {{name: string, view: object}[]}
 */
export function presets(picture) {
  const between = (low, high) => ({ center: (low + high) / 2, width: Math.max(high - low, picture.slope) });
  const share = percentiles(picture);
  const asRead = picture.curve ? [{ name: "As read", view: { curve: true } }] : [];
  const own = picture.windows.map(({ name, center, width }, i) => ({
    name: name ? `${name} (header)` : `Header ${i + 1}`,
    view: { center, width },
  }));
  const [dark, bright] = picture.inverted ? [[0.45, 0.99], [0.01, 0.6]] : [[0.01, 0.55], [0.4, 0.99]];
  return [
    ...asRead,
    ...own,
    { name: "Full", view: picture.curve ? between(share(0), share(1)) : { center: 127.5, width: 255 } },
    { name: "Lung", view: between(share(dark[0]), share(dark[1])) },
    { name: "Bone", view: between(share(bright[0]), share(bright[1])) },
  ];
}

/** The window that shows about what the detector sees: from where its curve leaves black to where it reaches white. */
export function windowOfCurve({ curve, slope, intercept, most }) {
  const value = (i) => slope * ((i * most) / (curve.length - 1)) + intercept;
  const within = [...curve.keys()].filter((i) => curve[i] > 0.02 && curve[i] < 0.98);
  if (within.length < 2) return { center: value((curve.length - 1) / 2), width: value(curve.length - 1) - value(0) };
  const [low, high] = [value(within[0]), value(within[within.length - 1])];
  return { center: (low + high) / 2, width: (high - low) / 0.96 };
}

/** A function that gives the value below which a share of the pixels lies; the darkest and brightest code count for nothing. */
function percentiles({ codes, most, slope, intercept }) {
  const counts = new Uint32Array(most + 1);
  for (let i = 0; i < codes.length; i += 1) counts[codes[i]] += 1;
  const [first, last] = [counts.findIndex(Boolean), most - [...counts].reverse().findIndex(Boolean)];
  const ends = counts.slice();
  ends[first] = ends[last] = 0;
  const inner = ends.reduce((sum, count) => sum + count, 0);
  return (share) => {
    if (share <= 0 || !inner) return slope * first + intercept;
    if (share >= 1) return slope * last + intercept;
    let code = 0;
    for (let left = share * inner; code < most && (left -= ends[code]) > 0; ) code += 1;
    return slope * code + intercept;
  };
}
