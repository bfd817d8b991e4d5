// One image, large: its pixels through a window, zoomed, moved, turned, the evidence over it, a ruler.

import { el } from "./dom.js";
import { outline, paintEvidence } from "./evidence.js";
import { paint, presets, valueAt, windowOfCurve } from "./pixels.js";

const MOST_ZOOM = 16; // times the size at which the whole image is shown
const SVG = "http://www.w3.org/2000/svg";

function svg(tag, properties = {}) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(properties)) node.setAttribute(name, value);
  return node;
}

/** Where an image lies: zoom 1 shows all of it; x and y are pixels of the stage from its middle. Panes may share one. */
export const wholly = () => ({ zoom: 1, x: 0, y: 0 });

export class Pane extends EventTarget {
  item = null;
  picture = null;
  presets = [];
  view = { center: 127.5, width: 255, inverted: false };
  turns = 0; // quarters, clockwise
  flipped = false;
  evidence = { tint: false, outline: false, opacity: 0.45 };
  ruler = null; // two points of the image, in its pixels
  #frame = 0;

  /** @param {HTMLElement} stage  an empty element to fill */
  constructor(stage, place) {
    super();
    this.stage = stage;
    this.place = place;
    this.canvas = el("canvas", { class: "image" });
    this.tint = el("canvas", { class: "evidence" });
    this.path = svg("path", { "vector-effect": "non-scaling-stroke" });
    this.contour = svg("svg", { class: "contour", viewBox: "0 0 1 1", preserveAspectRatio: "none" });
    this.contour.append(this.path);
    this.plate = el("div", { class: "plate" }, this.canvas, this.tint, this.contour);
    this.line = svg("line", { class: "ruler" });
    this.measure = svg("svg", { class: "measure" });
    this.measure.append(this.line);
    this.length = el("p", { class: "length" });
    this.blank = el("p", { class: "blank" });
    this.corners = Object.fromEntries(["name", "study", "window", "value"].map((name) => [name, el("p", { class: `corner ${name}` })]));
    stage.append(this.plate, this.measure, this.length, this.blank, ...Object.values(this.corners));
    new ResizeObserver(() => this.fit()).observe(stage);
  }

  /** Take another item; its picture comes later. */
  take(item) {
    this.item = item;
    this.picture = null;
    this.presets = [];
    this.ruler = null;
    this.turns = 0;
    this.flipped = false;
    this.refresh();
  }

  /** Show a picture of the item; the same one with more bits keeps its place. */
  setPicture(picture) {
    this.picture = picture;
    this.ruler = null;
    this.presets = presets(picture);
    this.view = { ...this.presets[0].view, inverted: false };
    this.repaint();
    this.refresh();
  }

  /** Draw what is said of the item anew. */
  refresh() {
    const { item, picture } = this;
    this.blank.textContent = picture || !item ? "" : blankText(item);
    this.corners.name.textContent = item?.name ?? "";
    this.corners.study.textContent = item?.study ?? "";
    this.plate.hidden = !picture;
    const map = item?.finding?.evidence;
    this.tint.hidden = !map || !this.evidence.tint;
    this.contour.toggleAttribute("hidden", !map || !this.evidence.outline);
    this.tint.style.opacity = this.evidence.opacity;
    if (map && this.painted !== map) {
      paintEvidence(this.tint, map);
      this.path.setAttribute("d", outline(map));
      this.painted = map;
    }
    this.fit();
  }

  repaint() {
    cancelAnimationFrame(this.#frame);
    this.#frame = requestAnimationFrame(() => {
      if (this.picture) paint(this.canvas, this.picture, this.view);
    });
    this.tell();
  }

  /** Size of a pixel of the image in pixels of the stage, at zoom 1. */
  get whole() {
    const { width, height } = this.stage.getBoundingClientRect();
    const [across, down] = this.turns % 2 ? [this.picture.height, this.picture.width] : [this.picture.width, this.picture.height];
    return Math.min(width / across, height / down);
  }

  fit() {
    if (this.picture) {
      const { picture, place, turns, flipped } = this;
      const { width, height } = this.stage.getBoundingClientRect();
      const scale = this.whole * place.zoom;
      const [across, down] = turns % 2 ? [picture.height, picture.width] : [picture.width, picture.height];
      const clamped = (value, room, side) => {
        const most = Math.max(0, (side * scale - room) / 2 + room / 4);
        return Math.min(most, Math.max(-most, value));
      };
      place.x = place.zoom === 1 ? 0 : clamped(place.x, width, across);
      place.y = place.zoom === 1 ? 0 : clamped(place.y, height, down);
      this.plate.style.width = `${picture.width}px`;
      this.plate.style.height = `${picture.height}px`;
      this.plate.style.transform =
        `translate(${width / 2 + place.x}px, ${height / 2 + place.y}px) rotate(${90 * turns}deg) ` +
        `scale(${flipped ? -scale : scale}, ${scale}) translate(-50%, -50%)`;
    }
    this.#drawRuler();
    this.tell();
  }

  /** Where a point of the stage lies on the image, in the image's pixels. */
  toImage(x, y) {
    const { width, height } = this.stage.getBoundingClientRect();
    const scale = this.whole * this.place.zoom;
    const [dx, dy] = [(x - width / 2 - this.place.x) / scale, (y - height / 2 - this.place.y) / scale];
    const [rx, ry] = [[dx, dy], [dy, -dx], [-dx, -dy], [-dy, dx]][this.turns];
    return [this.picture.width / 2 + (this.flipped ? -rx : rx), this.picture.height / 2 + ry];
  }

  /** Where a point of the image lies on the stage. */
  toStage(px, py) {
    const { width, height } = this.stage.getBoundingClientRect();
    const scale = this.whole * this.place.zoom;
    const dx = (px - this.picture.width / 2) * (this.flipped ? -1 : 1);
    const dy = py - this.picture.height / 2;
    const [rx, ry] = [[dx, dy], [-dy, dx], [-dx, -dy], [dy, -dx]][this.turns];
    return [width / 2 + this.place.x + rx * scale, height / 2 + this.place.y + ry * scale];
  }

  setWindow(center, width) {
    const { slope } = this.picture;
    this.view = { center, width: Math.max(slope, width), inverted: this.view.inverted };
    this.repaint();
  }

  /** Change the window by shares of the full range: up is brighter, a larger factor softer. */
  shiftWindow(brighter, factor) {
    if (!this.picture) return;
    const { center, width } = this.currentWindow;
    const sign = this.picture.inverted !== this.view.inverted ? 1 : -1;
    this.setWindow(center + sign * brighter * this.full.width, Math.min(4 * this.full.width, width * factor));
  }

  /** The window in the values' units, also where the image is shown as the detector sees it. */
  get currentWindow() {
    return this.view.curve ? windowOfCurve(this.picture) : this.view;
  }

  get full() {
    return this.presets.find(({ name }) => name === "Full")?.view ?? { center: 127.5, width: 255 };
  }

  setPreset(number) {
    this.view = { ...this.presets[number].view, inverted: this.view.inverted };
    this.repaint();
  }

  invert() {
    this.view = { ...this.view, inverted: !this.view.inverted };
    this.repaint();
  }

  /** Zoom so that the point of the stage at (x, y) from its middle stays where it is. */
  setZoom(zoom, x = 0, y = 0) {
    if (!this.picture) return;
    const next = Math.min(Math.max(MOST_ZOOM, 2 * this.actual), Math.max(Math.min(1, this.actual), zoom));
    const ratio = next / this.place.zoom;
    Object.assign(this.place, { zoom: next, x: x + (this.place.x - x) * ratio, y: y + (this.place.y - y) * ratio });
    this.fit();
  }

  /** The zoom at which a pixel of the image is one of the screen. */
  get actual() {
    return 1 / (this.whole * devicePixelRatio);
  }

  move(x, y) {
    this.place.x += x;
    this.place.y += y;
    this.fit();
  }

  turn() {
    this.turns = (this.turns + 1) % 4;
    this.fit();
  }

  /** Mirror left and right as they are seen. */
  flip() {
    this.turns = (4 - this.turns) % 4;
    this.flipped = !this.flipped;
    this.fit();
  }

  reset() {
    if (!this.picture) return;
    Object.assign(this.place, wholly());
    this.turns = 0;
    this.flipped = false;
    this.ruler = null;
    this.view = { ...this.presets[0].view, inverted: false };
    this.repaint();
    this.fit();
  }

  setRuler(from, to) {
    this.ruler = from && { from, to };
    this.#drawRuler();
  }

  #drawRuler() {
    const shown = Boolean(this.ruler && this.picture);
    this.measure.toggleAttribute("hidden", !shown);
    this.length.hidden = !shown;
    if (!shown) return;
    const { from, to } = this.ruler;
    const [[x1, y1], [x2, y2]] = [this.toStage(...from), this.toStage(...to)];
    for (const [name, value] of Object.entries({ x1, y1, x2, y2 })) this.line.setAttribute(name, value);
    const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
    const { spacing } = this.picture;
    this.length.textContent = spacing ? `${Math.hypot(dx * spacing[1], dy * spacing[0]).toFixed(1)} mm` : `${Math.hypot(dx, dy).toFixed(0)} pixels`;
    this.length.title = spacing ? "By the pixel spacing of the header: on the detector, unless it is calibrated" : "The file names no pixel spacing";
    this.length.style.transform = `translate(${(x1 + x2) / 2 + 8}px, ${(y1 + y2) / 2 + 8}px)`;
  }

  /** Tell the value below a point of the stage. */
  point(x, y) {
    if (!this.picture) return;
    const [px, py] = this.toImage(x, y).map(Math.floor);
    const inside = px >= 0 && py >= 0 && px < this.picture.width && py < this.picture.height;
    const value = inside ? valueAt(this.picture, px, py) : null;
    this.corners.value.textContent = inside ? `${px}, ${py}: ${number(value)} ${this.picture.unit}`.trim() : "";
  }

  tell() {
    const parts = [];
    if (this.picture) {
      const { center, width, curve } = this.view;
      parts.push(curve ? "as read" : `W ${number(width)}   L ${number(center)}${this.picture.unit ? ` ${this.picture.unit}` : ""}`);
      parts.push(`${Math.round(100 * this.whole * this.place.zoom * devicePixelRatio)} %`);
      if (this.view.inverted) parts.push("inverted");
      if (this.flipped) parts.push("mirrored");
      if (this.turns) parts.push(`turned ${90 * this.turns}°`);
    }
    this.corners.window.textContent = parts.join("   ");
    this.dispatchEvent(new Event("told"));
  }
}

const number = (value) => (Math.abs(value) >= 10 || Number.isInteger(value) ? Math.round(value) : value.toPrecision(3));

function blankText({ finding }) {
  if (!finding) return "The image is shown once it is predicted.";
  return finding.error ? "This file cannot be shown." : "Being prepared…";
}
