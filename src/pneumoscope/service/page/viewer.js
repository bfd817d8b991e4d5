// The image, large: window, zoom, movement, inversion, and the evidence over it.

import { $ } from "./dom.js";
import { paintEvidence } from "./evidence.js";
import { decode, paint } from "./images.js";

const FULL = { level: 0.5, span: 1, inverted: false };
const MOST_ZOOM = 12; // times the size at which the whole image is shown
const STEP = 40; // pixels an arrow key moves the image

const stage = $("stage");
const plate = $("plate");
const canvas = $("image");

let image = null; // as `decode` gives it
let shown = null; // the image it is of
let view = { ...FULL };
let place = { zoom: 1, x: 0, y: 0 }; // zoom 1 shows the whole image; x and y are stage pixels from the middle
let dragging = matchMedia("(pointer: coarse)").matches ? "pan" : "window";
let opacity = 45;
let frame = 0;

export const currentWindow = () => ({ ...view });
export const currentImage = () => image;

/** Show an image, or nothing; window and zoom are kept while the image stays the same. */
export async function show(entry) {
  const isNew = entry !== shown;
  shown = entry;
  if (isNew) {
    image = null;
    reset();
  }
  if (entry?.image && !image) {
    const decoded = await decode(entry.image).catch(() => null);
    if (shown !== entry) return;
    image = decoded;
    if (image) repaint();
  }
  $("blank").textContent = image || !entry ? "" : blankText(entry);
  $("corner-name").textContent = entry?.name ?? "";
  plate.hidden = !image;
  const evidence = entry?.finding?.evidence;
  $("evidence").hidden = !evidence;
  $("opacity").disabled = !evidence;
  if (evidence) paintEvidence($("evidence"), evidence);
  $("low").textContent = evidence ? `−${evidence.scale.toFixed(2)}` : "";
  $("high").textContent = evidence ? `+${evidence.scale.toFixed(2)}` : "";
  fit();
}

function blankText(entry) {
  if (!entry.finding) return "The image is shown once it is read.";
  return entry.finding.error ? "This file cannot be shown." : "This image cannot be shown here.";
}

function repaint() {
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(() => {
    if (image) paint(canvas, image, view);
  });
  $("brightness").value = Math.round(100 * (1 - view.level));
  $("contrast").value = Math.round(50 - 25 * Math.log2(view.span));
  $("invert").setAttribute("aria-pressed", view.inverted);
  tell();
}

function fit() {
  if (!image) return tell();
  const { width, height } = stage.getBoundingClientRect();
  const whole = Math.min(width / image.width, height / image.height);
  const scale = whole * place.zoom;
  const limit = (room, side) => Math.max(0, (side * scale - room) / 2 + room / 4);
  const clamped = (value, most) => Math.min(most, Math.max(-most, value));
  place.x = place.zoom === 1 ? 0 : clamped(place.x, limit(width, image.width));
  place.y = place.zoom === 1 ? 0 : clamped(place.y, limit(height, image.height));
  const left = width / 2 + place.x - (image.width * scale) / 2;
  const top = height / 2 + place.y - (image.height * scale) / 2;
  plate.style.width = `${image.width}px`;
  plate.style.height = `${image.height}px`;
  plate.style.transform = `translate(${left}px, ${top}px) scale(${scale})`;
  $("zoom").value = Math.round((100 * Math.log(place.zoom)) / Math.log(MOST_ZOOM));
  tell();
}

function tell() {
  const parts = [`W ${Math.round(255 * view.span)}`, `L ${Math.round(255 * view.level)}`, `${place.zoom.toFixed(1)} ×`];
  if (view.inverted) parts.push("inverted");
  $("corner-window").textContent = image ? parts.join("   ") : "";
  stage.dataset.drag = dragging;
  stage.style.touchAction = dragging === "pan" && place.zoom === 1 ? "pan-y" : "none"; // a whole image lets the page scroll
  $("drag-window").setAttribute("aria-pressed", dragging === "window");
  $("drag-pan").setAttribute("aria-pressed", dragging === "pan");
}

function setWindow(level, span) {
  view.level = Math.min(1, Math.max(0, level));
  view.span = Math.min(4, Math.max(0.02, span));
  repaint();
}

/** Zoom so that the point of the stage at (x, y) from its middle stays where it is. */
function setZoom(zoom, x = 0, y = 0) {
  const next = Math.min(MOST_ZOOM, Math.max(1, zoom));
  const ratio = next / place.zoom;
  place = { zoom: next, x: x + (place.x - x) * ratio, y: y + (place.y - y) * ratio };
  fit();
}

function move(x, y) {
  place.x += x;
  place.y += y;
  fit();
}

function reset() {
  view = { ...FULL };
  place = { zoom: 1, x: 0, y: 0 };
  repaint();
  fit();
}

function setOpacity(value) {
  opacity = value;
  $("opacity").value = value;
  $("evidence").style.opacity = value / 100;
}

let lastOpacity = 45;
function toggleEvidence() {
  if (opacity) lastOpacity = opacity;
  setOpacity(opacity ? 0 : lastOpacity);
}

// --- by hand

const pointers = new Map();

function fromMiddle(event) {
  const { left, top, width, height } = stage.getBoundingClientRect();
  return [event.clientX - left - width / 2, event.clientY - top - height / 2];
}

stage.addEventListener("pointerdown", (event) => {
  stage.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, pan: event.button > 0 || event.shiftKey });
});

stage.addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId);
  if (!before) return;
  const [dx, dy] = [event.clientX - before.x, event.clientY - before.y];
  if (pointers.size === 2) {
    const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
    const apart = (point) => Math.hypot(point.x - other.x, point.y - other.y);
    const now = { x: event.clientX, y: event.clientY };
    setZoom(place.zoom * (apart(now) / Math.max(1, apart(before))), ...fromMiddle(event));
    move(dx / 2, dy / 2);
  } else if (before.pan || dragging === "pan") {
    move(dx, dy);
  } else {
    // As in reading stations: up is brighter, right is softer; a drag over 400 pixels is the whole range.
    setWindow(view.level + dy / 400, view.span * 2 ** (dx / 200));
  }
  Object.assign(before, { x: event.clientX, y: event.clientY });
});

for (const over of ["pointerup", "pointercancel"]) {
  stage.addEventListener(over, (event) => pointers.delete(event.pointerId));
}
stage.addEventListener("contextmenu", (event) => event.preventDefault());
stage.addEventListener("dblclick", () => {
  place = { zoom: 1, x: 0, y: 0 };
  fit();
});
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  setZoom(place.zoom * 2 ** (-event.deltaY / 400), ...fromMiddle(event));
}, { passive: false });

// --- by keys; they work while the image has the focus

const ARROWS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

stage.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const arrow = ARROWS[event.key];
  const keys = {
    "+": () => setZoom(place.zoom * 1.25),
    "=": () => setZoom(place.zoom * 1.25),
    "-": () => setZoom(place.zoom / 1.25),
    0: () => setZoom(1),
    i: invert,
    e: toggleEvidence,
    r: reset,
  };
  if (arrow && event.shiftKey) setWindow(view.level + arrow[1] * -0.02, view.span * 2 ** (arrow[0] * -0.1));
  else if (arrow) move(arrow[0] * STEP, arrow[1] * STEP);
  else if (keys[event.key.toLowerCase()]) keys[event.key.toLowerCase()]();
  else return;
  event.preventDefault();
});

// --- by the tools below

function invert() {
  view.inverted = !view.inverted;
  repaint();
}

function setDragging(what) {
  dragging = what;
  tell();
}

$("brightness").addEventListener("input", (event) => setWindow(1 - event.target.value / 100, view.span));
$("contrast").addEventListener("input", (event) => setWindow(view.level, 2 ** ((50 - event.target.value) / 25)));
$("zoom").addEventListener("input", (event) => setZoom(MOST_ZOOM ** (event.target.value / 100)));
$("opacity").addEventListener("input", (event) => setOpacity(Number(event.target.value)));
$("invert").addEventListener("click", invert);
$("reset").addEventListener("click", reset);
$("drag-window").addEventListener("click", () => setDragging("window"));
$("drag-pan").addEventListener("click", () => setDragging("pan"));

new ResizeObserver(fit).observe(stage);
setOpacity(opacity);
