// One film on paper: what was said, by which model, and what that is worth.

import { $, el } from "./dom.js";
import { paintEvidence, paintRamp } from "./evidence.js";
import { paint } from "./pictures.js";
import { card, verdict } from "./verdict.js";

/** Open the report of a film. */
export function openReport(film, model, picture, view) {
  const now = new Date();
  $("paper").replaceChildren(
    el("header", {},
      el("p", { class: "brand" }, "Pneumoscope"),
      el("p", { class: "notice" }, "Not a medical device – for research and teaching"),
    ),
    el("h2", {}, film.name),
    el("p", { class: "quiet" }, `Judged by a computer alone. Printed ${now.toLocaleString()}.`),
    el("div", { class: "said" }, verdict(film, model)),
    pictures(film, picture, view),
    el("h3", {}, "The model"),
    card(model),
  );
  $("report").showModal();
}

function pictures(film, picture, view) {
  if (!picture) return el("p", { class: "quiet" }, "The film cannot be shown.");
  const plain = el("figure", {}, plate(picture, view), el("figcaption", {}, "The film"));
  if (!film.finding?.evidence) return el("div", { class: "films" }, plain);
  const over = el("canvas", { class: "over" });
  paintEvidence(over, film.finding.evidence);
  const ramp = el("canvas", { width: 96, height: 8 });
  paintRamp(ramp);
  const legend = el("div", { class: "legend" }, el("span", {}, "towards normal"), ramp, el("span", {}, "towards pneumonia"));
  const tinted = el("figure", {}, plate(picture, view, over), el("figcaption", {}, "With its evidence map", legend));
  return el("div", { class: "films" }, plain, tinted);
}

function plate(picture, view, over = null) {
  const canvas = el("canvas", {});
  paint(canvas, picture, view);
  const node = el("div", { class: "plate" }, canvas, over);
  node.style.maxWidth = `${(19 * picture.width) / picture.height}rem`; // no higher than leaves the rest on one sheet
  return node;
}
