// One image on paper: what was said, by which model, and what that is worth.

import { $, el } from "./dom.js";
import { paintEvidence, paintRamp } from "./evidence.js";
import { paint } from "./images.js";
import { card, describe } from "./finding.js";

/** Open the report of an image. */
export function openReport(entry, model, image, view) {
  const now = new Date();
  $("paper").replaceChildren(
    el("header", {},
      el("p", { class: "brand" }, "Pneumoscope"),
      el("p", { class: "notice" }, "Not a medical device – for research and teaching"),
    ),
    el("h2", {}, entry.name),
    el("p", { class: "quiet" }, `Read by a computer alone. Printed ${now.toLocaleString()}.`),
    el("div", { class: "said" }, describe(entry, model)),
    images(entry, image, view),
    el("h3", {}, "The model"),
    card(model),
  );
  $("report").showModal();
}

function images(entry, image, view) {
  if (!image) return el("p", { class: "quiet" }, "The image cannot be shown.");
  const plain = el("figure", {}, plate(image, view), el("figcaption", {}, "The image"));
  if (!entry.finding?.evidence) return el("div", { class: "images" }, plain);
  const over = el("canvas", { class: "over" });
  paintEvidence(over, entry.finding.evidence);
  const ramp = el("canvas", { width: 96, height: 8 });
  paintRamp(ramp);
  const legend = el("div", { class: "legend" }, el("span", {}, "towards normal"), ramp, el("span", {}, "towards pneumonia"));
  const tinted = el("figure", {}, plate(image, view, over), el("figcaption", {}, "With its evidence map", legend));
  return el("div", { class: "images" }, plain, tinted);
}

function plate(image, view, over = null) {
  const canvas = el("canvas", {});
  paint(canvas, image, view);
  const node = el("div", { class: "plate" }, canvas, over);
  node.style.maxWidth = `${(19 * image.width) / image.height}rem`; // no higher than leaves the rest on one sheet
  return node;
}
