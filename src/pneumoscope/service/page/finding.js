// What is said of one image, in words.

import { capital, decimals, el, plural } from "./dom.js";
import { scale } from "./scale.js";

const REJECTIONS = {
  not_a_chest_radiograph: "Not a chest radiograph",
  too_large: "Too large",
  too_slow: "Takes too long",
  unreachable: "No answer",
  unreadable: "Cannot be read",
  unsupported: "Not a known image format",
};

const STEPS = { waiting: "Waiting its turn", sending: "On its way", predicting: "Being read" };

/** In two or three words: what a row of the work list says. */
export function inShort(entry) {
  const { finding } = entry;
  if (!finding) return STEPS[entry.step];
  if (finding.error) return REJECTIONS[finding.error.kind] ?? "No finding";
  return capital(finding.finding) + (finding.uncertain ? ", uncertain" : "");
}

/** The finding on an image as elements; without the image's name. */
export function describe(entry, model) {
  const { finding } = entry;
  if (!finding) {
    const share = entry.step === "sending" ? entry.sent : null;
    const bar = el("progress", { max: 1, "aria-label": "This image", value: share });
    return [el("p", { class: "word pending" }, STEPS[entry.step]), bar];
  }
  if (finding.error) {
    return [
      el("p", { class: "word rejected" }, inShort(entry)),
      el("p", {}, finding.error.message),
      el("p", { class: "quiet" }, "There is no finding for this image."),
    ];
  }
  const { calibration } = model.card;
  return [
    el("p", { class: `word ${finding.finding.toLowerCase()}` },
      capital(finding.finding),
      finding.uncertain ? el("small", {}, "uncertain") : null,
    ),
    el("p", { class: "probability" }, el("b", {}, decimals(finding.probability)), " probability of pneumonia, calibrated"),
    scale(finding, calibration),
    el("p", {}, reason(finding, calibration)),
    ...finding.warnings.map((key) => el("p", { class: "alert" }, model.warnings[key] ?? key.replaceAll("_", " "))),
  ];
}

function reason({ probability, uncertain }, { threshold, uncertain_low: low, uncertain_high: high }) {
  const band = `between ${decimals(low)} and ${decimals(high)}`;
  if (uncertain) return `It lies ${band}, where this model errs most: take it as undecided, and look again.`;
  const side = probability >= threshold ? "at or above" : "below";
  return `It lies ${side} the threshold of ${decimals(threshold)}, and outside the uncertain band ${band}.`;
}

/** In one sentence: whose images the model has learnt from. */
export function learntFrom({ card }) {
  const { population, training } = card.data;
  const images = training ? `${plural(training.images, "image")} of ${plural(training.patients, "patient")}` : "images";
  return `The model has learnt from ${images}${population ? `: ${population}` : ""}. Of others it knows nothing.`;
}

/** The model's card as a list of terms. */
export function card(model) {
  const { card } = model;
  const { calibration, metrics } = card;
  const figure = (name) => {
    const { value, low, high } = metrics[name] ?? {};
    return value === undefined || value === null ? "not known" : `${decimals(value, 3)} (${decimals(low, 3)}–${decimals(high, 3)})`;
  };
  const rows = [
    ["Model", `${card.architecture}, ${card.input_size} × ${card.input_size} pixels`],
    ["Learnt from", learntFrom(model)],
    ["Measured", `AUC ${figure("auc")}, sensitivity ${figure("sensitivity")}, specificity ${figure("specificity")}, with ` +
      `95 % intervals, on ${plural(metrics.n ?? 0, "image")} of held-out patients of the training hospital. They chose the ` +
      "threshold, so the figures flatter the model."],
    ["Threshold", `${decimals(calibration.threshold, 3)}. ${calibration.threshold_reason}`],
    ["Uncertain", `${decimals(calibration.uncertain_low, 3)}–${decimals(calibration.uncertain_high, 3)}. ${calibration.uncertain_reason}`],
    ["Evidence", card.bias === null ? "approximate: the network's head is not linear." : "exact: the cells add up to the logit."],
    ["For", card.intended_use],
    ["Limits", "It knows pneumonia or not, and no other disease. An image unlike those it has learnt from can be misread " +
      "without being marked as uncertain."],
    ["Software", `${model.name} ${model.version}. Licence of the model: ${card.licence || "not stated"}.`],
  ];
  return el("dl", { class: "card" }, rows.map(([term, text]) => el("div", {}, el("dt", {}, term), el("dd", {}, text))));
}
