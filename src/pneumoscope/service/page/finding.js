// What is said of one image, in words.

import { decimals, el, plural, probable } from "./dom.js";
import { scale } from "./scale.js";

export const WORDS = { NORMAL: "No pneumonia seen", PNEUMONIA: "Pneumonia suspected" };

/** Of each kind of error: in two or three words, and what to do. */
const ERRORS = {
  not_a_chest_radiograph: ["Rejected: not a frontal chest radiograph", "Only frontal views of the chest are predicted. If this is one, check that it is upright, not inverted, and not cropped to a part of the chest, and export it again."],
  too_large: ["Too large", "Export the image with fewer pixels, or let whoever runs the service raise its limits."],
  too_slow: ["Takes too long", "Try again when the service is less busy, or export the image with fewer pixels."],
  unreachable: ["Not predicted", "The image is still here: try again once the service answers."],
  unreadable: ["Cannot be read", "The file seems to be damaged. Copy or export it again from where it comes from."],
  unsupported: ["Not an image that is read", "Export it as DICOM, PNG, JPEG or TIFF."],
};

const STEPS = { waiting: "Waiting its turn", sending: "On its way", predicting: "Being predicted" };

/** In two or three words: what a row of the work list says. */
export function inShort({ finding, step }) {
  if (!finding) return STEPS[step];
  if (finding.error) return ERRORS[finding.error.kind]?.[0] ?? "No finding";
  return WORDS[finding.finding] + (finding.uncertain ? ", uncertain" : "");
}

/** The finding on an image as elements; without the image's name. */
export function described(item, model) {
  const { finding } = item;
  if (!finding) {
    const share = item.step === "sending" ? item.sent : null;
    const bar = el("progress", { max: 1, "aria-label": "This image", value: share });
    return [el("p", { class: "word pending" }, STEPS[item.step]), bar];
  }
  if (finding.error) {
    return [
      el("p", { class: "word rejected" }, inShort(item)),
      el("p", {}, finding.error.message),
      el("p", { class: "quiet" }, ERRORS[finding.error.kind]?.[1] ?? "There is no finding for this image."),
    ];
  }
  const { calibration } = model.card;
  return [
    el("p", { class: `word ${finding.finding.toLowerCase()}` },
      WORDS[finding.finding],
      ...(finding.uncertain ? [" ", el("small", {}, "uncertain")] : []),
    ),
    el("p", { class: "probability" }, el("b", {}, probable(finding.probability)), " probability of pneumonia, calibrated"),
    scale(finding, calibration),
    el("p", {}, reason(finding, calibration)),
    ...finding.warnings.map((key) => el("p", { class: "alert" }, model.warnings[key] ?? key.replaceAll("_", " "))),
    el("p", { class: "quiet" }, assumption(model)),
  ];
}

function reason({ probability, uncertain }, { threshold, uncertain_low: low, uncertain_high: high }) {
  const band = `between ${decimals(low)} and ${decimals(high)}`;
  if (uncertain) return `The probability lies ${band}, where this model errs most: take it as no finding, and look again.`;
  const side = probability >= threshold ? "at or above" : "below";
  return `The probability lies ${side} the threshold of ${decimals(threshold)}, and outside the uncertain band ${band}.`;
}

/** What the probability holds under: how common pneumonia is. */
function assumption({ card }) {
  const share = Math.round(100 * (card.calibration.prevalence ?? 0.5));
  return `The probability assumes that ${share}\u00a0% of the patients have pneumonia: where it is rarer, the true probability is lower.`;
}

/** In one sentence: whose images the model was trained on. */
export function trainedOn({ card }) {
  const { population, training } = card.data;
  const n = training?.images ?? training?.films;
  const images = training ? `${plural(n, "image")} of ${plural(training.patients, "patient")}` : "images";
  return `The model was trained on ${images}${population ? `: ${population}` : ""}. Of others it knows nothing.`;
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
    ["Trained on", trainedOn(model)],
    ["Measured", `AUC ${figure("auc")}, sensitivity ${figure("sensitivity")}, specificity ${figure("specificity")}, with ` +
      `95 % intervals, on ${plural(metrics.n ?? 0, "image")} of patients held out from training. The threshold was ` +
      "chosen on them, so the figures are too good."],
    ["Threshold", `${decimals(calibration.threshold, 3)}. ${calibration.threshold_reason}`],
    ["Uncertain", `${decimals(calibration.uncertain_low, 3)}–${decimals(calibration.uncertain_high, 3)}. ${calibration.uncertain_reason}`],
    ["Evidence", card.bias === null ? "approximate: the network's head is not linear." : "exact: the cells add up to the logit."],
    ["For", card.intended_use],
    ["Limits", "It knows pneumonia or not, and no other disease: “No pneumonia seen” never means a healthy person. An image " +
      "unlike those it was trained on can be predicted wrong without being marked as uncertain."],
    ["Software", `${model.name} ${model.version}. Licence of the model: ${card.licence || "not stated"}.`],
  ];
  return el("dl", { class: "card" }, rows.map(([term, text]) => el("div", {}, el("dt", {}, term), el("dd", {}, text))));
}
