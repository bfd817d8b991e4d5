// One image on paper: what was said, by which model, and what that is worth.

import { $, el } from "./dom.js";
import { isDrawn, paintEvidence, paintRamp } from "./evidence.js";
import { card, described } from "./finding.js";
import { paint } from "./pixels.js";

/** Open the report of an image. */
export function openReport(item, model, picture, view) {
  const now = new Date();
  $("paper").replaceChildren(
    el("header", {},
      el("p", { class: "brand" }, "Pneumoscope"),
      el("p", { class: "notice" }, "Not a medical device – for research and teaching"),
    ),
    el("h2", {}, item.name),
    el("p", { class: "quiet" }, `Predicted by a computer alone. Printed ${now.toLocaleString()}.`),
    el("div", { class: "said" }, described(item, model), noted(item)),
    images(item, picture, view),
    el("h3", {}, "The model"),
    card(model),
  );
  $("report").showModal();
}

function noted({ review }) {
  if (!review) return null;
  const word = { true: "The reader agrees.", false: "The reader disagrees." }[review.agrees] ?? "";
  return el("p", {}, [word, review.note].filter(Boolean).join(" "));
}

function images(item, picture, view) {
  if (!picture) return el("p", { class: "quiet" }, "The image cannot be shown.");
  const plain = el("figure", {}, plate(picture, view), el("figcaption", {}, "The image"));
  if (!isDrawn(item.finding)) return el("div", { class: "images" }, plain);
  const over = el("canvas", { class: "over" });
  paintEvidence(over, item.finding.evidence);
  const ramp = el("canvas", { width: 96, height: 8 });
  paintRamp(ramp);
  const legend = el("div", { class: "legend" }, el("span", {}, "against pneumonia"), ramp, el("span", {}, "for pneumonia"));
  const tinted = el("figure", {}, plate(picture, view, over), el("figcaption", {}, "With its evidence map", legend));
  return el("div", { class: "images" }, plain, tinted);
}

function plate(picture, view, over = null) {
  const canvas = el("canvas", {});
  paint(canvas, picture, view);
  const node = el("div", { class: "plate" }, canvas, over);
  node.style.setProperty("--ratio", picture.width / picture.height); // so that the style bounds the height
  return node;
}
