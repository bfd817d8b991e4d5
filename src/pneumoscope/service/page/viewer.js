// The viewer: one pane or two, the tools below them, mouse, touch and keys.

import { $, el } from "./dom.js";
import { isDrawn } from "./evidence.js";
import { Pane, wholly } from "./pane.js";
import { decode, decodeValues } from "./pixels.js";
import { values } from "./service.js";

const STEP = 40; // pixels an arrow key moves the image
const KEPT = 4; // decoded images

const place = wholly();
const first = new Pane($("stage"), place);
const second = new Pane($("stage-2"), place);
let active = first;
let layout = "one"; // "evidence": the same image with its evidence beside it; "two": another image beside it
let dragging = matchMedia("(pointer: coarse)").matches ? "pan" : "window";
let opacity = 45;

export const currentWindow = () => first.view;
export const currentPicture = () => first.picture;

// --- pictures

const decoded = new Map(); // item -> what it becomes, the latest last

/** What an item looks like: first what is at hand, then, where that lacks bits, the file's own values. */
async function* picturesOf(item) {
  if (decoded.has(item)) {
    yield decoded.get(item);
    return;
  }
  let picture = item.blob && (await decode(item.blob).catch(() => null));
  if (picture) yield picture;
  if (!item.showable && item.finding && item.finding.error?.kind !== "unreachable") {
    const deep = await values(item.file).then(decodeValues).catch(() => null);
    if (deep) yield deep;
    picture = deep ?? picture;
  }
  if (!picture || !(item.showable || item.finding)) return;
  decoded.set(item, picture);
  for (const old of [...decoded.keys()].slice(0, -KEPT)) decoded.delete(old);
}

async function load(pane) {
  const { item } = pane;
  const ticket = (pane.ticket = {});
  for await (const picture of picturesOf(item)) {
    if (pane.ticket !== ticket) return;
    pane.setPicture(picture);
    if (layout === "evidence" && pane === second) share();
    listPresets();
    settle();
  }
  if (pane.ticket === ticket) pane.loaded = item;
  if (!pane.picture) pane.refresh();
}

// --- what is shown

/** Show an item, or nothing; window and zoom are kept while it stays the same. */
export function show(item) {
  if (item !== first.item) {
    Object.assign(place, wholly());
    first.take(item);
    suggestEvidence(first);
  }
  if (layout === "evidence" && second.item !== item) second.take(item);
  for (const pane of panes()) {
    if (pane.item && pane.item.finding && pane.suggested !== pane.item) suggestEvidence(pane);
    const more = pane.item && (!pane.picture || (pane.item.finding && !pane.item.showable && pane.loaded !== pane.item));
    if (more && pane.wanted !== wish(pane.item)) {
      pane.wanted = wish(pane.item);
      load(pane);
    }
    pane.refresh();
  }
  settle();
}

const wish = (item) => `${item.number} ${Boolean(item.blob)} ${Boolean(item.finding)}`;

/** Evidence is shown unasked only where pneumonia is suspected: elsewhere its colours would suggest what was not found. */
function suggestEvidence(pane) {
  pane.evidence.tint = isDrawn(pane.item?.finding);
  pane.evidence.outline = false;
  if (pane.item?.finding) pane.suggested = pane.item;
}

function panes() {
  return layout === "one" ? [first] : [first, second];
}

/** Choose the layout; the second of two images is the one that is selected now. */
export function setLayout(next) {
  layout = next;
  $("panes").dataset.layout = layout;
  $("stage-2").hidden = layout === "one";
  active = first;
  if (layout !== "one") {
    second.take(first.item);
    second.wanted = null;
  }
  if (layout === "two") suggestEvidence(second);
  show(first.item);
  for (const pane of [first, second]) pane.fit();
}

function share() {
  second.view = first.view;
  second.turns = first.turns;
  second.flipped = first.flipped;
}

/** Bring tools and the second pane in line with the pane that is worked on. */
function settle() {
  if (layout === "evidence") {
    share();
    second.evidence = { tint: true, outline: first.evidence.outline, opacity: opacity / 100 };
    first.evidence.tint = false;
    first.refresh();
    second.refresh();
    if (second.picture) second.repaint();
  }
  const map = active.item?.finding?.evidence;
  for (const id of ["opacity", "tint", "outline"]) $(id).disabled = !map;
  $("tint").setAttribute("aria-pressed", Boolean(map) && (layout === "evidence" || active.evidence.tint));
  $("outline").setAttribute("aria-pressed", Boolean(map) && active.evidence.outline);
  $("low").textContent = map ? `−${map.scale.toFixed(2)}` : "";
  $("high").textContent = map ? `+${map.scale.toFixed(2)}` : "";
  $("invert").setAttribute("aria-pressed", active.view.inverted);
  for (const what of ["window", "pan", "ruler"]) $(`drag-${what}`).setAttribute("aria-pressed", dragging === what);
  for (const pane of [first, second]) {
    pane.stage.dataset.drag = dragging;
    pane.stage.classList.toggle("active", layout === "two" && pane === active);
    pane.stage.style.touchAction = dragging === "pan" && place.zoom === 1 ? "pan-y" : "none"; // a whole image lets the page scroll
  }
  if (active.picture) {
    const { center, width } = active.currentWindow;
    const { full } = active;
    $("brightness").value = Math.round(100 * (0.5 - (center - full.center) / full.width));
    $("contrast").value = Math.round(50 - 25 * Math.log2(width / full.width));
  }
}

function listPresets() {
  $("preset").replaceChildren(
    el("option", { value: "" }, "Preset…"),
    ...active.presets.map(({ name }, i) => el("option", { value: i }, name)),
  );
}

/** Do something to the pane that is worked on, and to the other what follows. */
function change(action) {
  if (active.picture) action(active);
  if (layout === "evidence") share();
  for (const pane of panes()) if (pane.picture) pane.fit();
  settle();
}

// --- by hand

const pointers = new Map();

function inside(pane, event) {
  const { left, top } = pane.stage.getBoundingClientRect();
  return [event.clientX - left, event.clientY - top];
}

function fromMiddle(pane, event) {
  const { left, top, width, height } = pane.stage.getBoundingClientRect();
  return [event.clientX - left - width / 2, event.clientY - top - height / 2];
}

for (const pane of [first, second]) {
  const { stage } = pane;
  stage.addEventListener("pointerdown", (event) => {
    active = layout === "two" ? pane : first;
    stage.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, pan: event.button > 0 || event.shiftKey });
    if (dragging === "ruler" && event.button === 0 && pane.picture) {
      const start = pane.toImage(...inside(pane, event));
      pane.setRuler(start, start);
    }
    listPresets();
    settle();
  });
  stage.addEventListener("pointermove", (event) => {
    pane.point(...inside(pane, event));
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const [dx, dy] = [event.clientX - before.x, event.clientY - before.y];
    if (pointers.size === 2) {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      const apart = (point) => Math.hypot(point.x - other.x, point.y - other.y);
      const now = { x: event.clientX, y: event.clientY };
      change(() => pane.setZoom(place.zoom * (apart(now) / Math.max(1, apart(before))), ...fromMiddle(pane, event)));
      change(() => pane.move(dx / 2, dy / 2));
    } else if (before.pan || dragging === "pan") {
      change(() => pane.move(dx, dy));
    } else if (dragging === "ruler") {
      if (pane.ruler) pane.setRuler(pane.ruler.from, pane.toImage(...inside(pane, event)));
    } else {
      // As in reading stations: up is brighter, right is softer; a drag over 400 pixels is the whole range.
      change(() => active.shiftWindow(-dy / 400, 2 ** (dx / 200)));
    }
    Object.assign(before, { x: event.clientX, y: event.clientY });
  });
  for (const over of ["pointerup", "pointercancel"]) {
    stage.addEventListener(over, (event) => pointers.delete(event.pointerId));
  }
  stage.addEventListener("pointerleave", () => (pane.corners.value.textContent = ""));
  stage.addEventListener("contextmenu", (event) => event.preventDefault());
  stage.addEventListener("dblclick", () => whole());
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    // A notch of a wheel is about 100, a movement on a touch pad some 10: a tenth larger, or a hundredth.
    const notches = Math.min(1.5, Math.max(-1.5, event.deltaY / (event.deltaMode ? 3 : 100)));
    change(() => pane.setZoom(place.zoom * 1.1 ** -notches, ...fromMiddle(pane, event)));
  }, { passive: false });
}

// --- by the tools below

const whole = () => change(() => Object.assign(place, wholly()));
const actual = () => change((pane) => pane.setZoom(pane.actual));
const zoomBy = (factor) => change((pane) => pane.setZoom(place.zoom * factor));
const invert = () => change((pane) => pane.invert());
const turn = () => change((pane) => pane.turn());
const flip = () => change((pane) => pane.flip());
const reset = () => change((pane) => pane.reset());

function setDragging(what) {
  dragging = what;
  if (what !== "ruler") for (const pane of [first, second]) pane.setRuler(null);
  settle();
}

function toggle(what) {
  if (!active.item?.finding?.evidence || (what === "tint" && layout === "evidence")) return;
  active.evidence[what] = !active.evidence[what];
  active.refresh();
  settle();
}

function setOpacity(value) {
  opacity = value;
  $("opacity").value = value;
  for (const pane of [first, second]) {
    pane.evidence.opacity = value / 100;
    pane.refresh();
  }
}

$("brightness").addEventListener("input", ({ target }) => change((pane) => pane.setWindow(pane.full.center + (0.5 - target.value / 100) * pane.full.width, pane.currentWindow.width)));
$("contrast").addEventListener("input", ({ target }) => change((pane) => pane.setWindow(pane.currentWindow.center, pane.full.width * 2 ** ((50 - target.value) / 25))));
$("preset").addEventListener("change", ({ target }) => {
  if (target.value !== "") change((pane) => pane.setPreset(Number(target.value)));
  target.value = "";
});
$("layout").addEventListener("change", ({ target }) => setLayout(target.value));
$("opacity").addEventListener("input", ({ target }) => {
  active.evidence.tint = true;
  setOpacity(Number(target.value));
  settle();
});
const CLICKS = {
  invert, turn, flip, reset, whole, actual,
  "zoom-in": () => zoomBy(1.25), "zoom-out": () => zoomBy(1 / 1.25),
  tint: () => toggle("tint"), outline: () => toggle("outline"),
  "drag-window": () => setDragging("window"), "drag-pan": () => setDragging("pan"), "drag-ruler": () => setDragging("ruler"),
};
for (const [id, act] of Object.entries(CLICKS)) $(id).addEventListener("click", act);

// --- by keys, wherever the focus is, but where a person writes or chooses

const ARROWS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const KEYS = {
  "+": () => zoomBy(1.25), "=": () => zoomBy(1.25), "-": () => zoomBy(1 / 1.25), 0: whole, 1: actual,
  i: invert, t: turn, f: flip, r: reset, e: () => toggle("tint"), o: () => toggle("outline"),
  w: () => setDragging("window"), m: () => setDragging("pan"), l: () => setDragging("ruler"),
  s: () => {
    $("layout").value = { one: "evidence", evidence: "two", two: "one" }[layout];
    setLayout($("layout").value);
  },
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.closest("input:not([type=range]), textarea, select")) return;
  const arrow = ARROWS[event.key];
  const own = event.target === document.body || event.target.closest("#panes");
  if (arrow && (!own || !active.picture)) return;
  if (arrow && event.shiftKey) change((pane) => pane.shiftWindow(arrow[1] * 0.02, 2 ** (arrow[0] * -0.1)));
  else if (arrow) change((pane) => pane.move(arrow[0] * STEP, arrow[1] * STEP));
  else if (KEYS[event.key.toLowerCase()]) KEYS[event.key.toLowerCase()]();
  else return;
  event.preventDefault();
});

/** The items that are on the screen. */
export const items = () => [...new Set(panes().map((pane) => pane.item))].filter(Boolean);

/** Write a text about patient and study into the corner of an image, or nothing. */
export function setStudy(item, text) {
  if (item.study === text) return;
  item.study = text;
  for (const pane of [first, second]) if (pane.item === item) pane.refresh();
}

setOpacity(opacity);
