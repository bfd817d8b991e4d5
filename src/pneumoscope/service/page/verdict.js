// What is said of one film, in words.

import { capital, decimals, el, plural } from "./dom.js";
import { scale } from "./scale.js";

const REFUSALS = {
  not_a_chest_radiograph: "Not a chest film",
  too_large: "Too large",
  too_slow: "Takes too long",
  unreachable: "Not judged",
  unreadable: "Cannot be read",
  unsupported: "Not a picture that is read",
};

const STEPS = { waiting: "Waiting its turn", sending: "On its way", judging: "Being judged" };

/** In two or three words: what a row of the work list says. */
export function inShort(film) {
  const { finding } = film;
  if (!finding) return STEPS[film.step];
  if (finding.error) return REFUSALS[finding.error.kind] ?? "No verdict";
  return capital(finding.finding) + (finding.uncertain ? ", uncertain" : "");
}

/** The verdict on a film as elements; without the film's name. */
export function verdict(film, model) {
  const { finding } = film;
  if (!finding) {
    const share = film.step === "sending" ? film.sent : null;
    const bar = el("progress", { max: 1, "aria-label": "This film", value: share });
    return [el("p", { class: "word pending" }, STEPS[film.step]), bar];
  }
  if (finding.error) {
    return [
      el("p", { class: "word refused" }, inShort(film)),
      el("p", {}, finding.error.message),
      el("p", { class: "quiet" }, "There is no verdict on this film."),
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
  if (uncertain) return `It lies ${band}, where this model errs most: take it as no verdict, and look again.`;
  const side = probability >= threshold ? "at or above" : "below";
  return `It lies ${side} the threshold of ${decimals(threshold)}, and outside the uncertain band ${band}.`;
}

/** In one sentence: whose films the model has learnt from. */
export function learntFrom({ card }) {
  const { population, training } = card.data;
  const films = training ? `${plural(training.films, "film")} of ${plural(training.patients, "patient")}` : "films";
  return `The model has learnt from ${films}${population ? `: ${population}` : ""}. Of others it knows nothing.`;
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
      `95 % intervals, on ${plural(metrics.n ?? 0, "film")} of held-out patients of the training hospital. They chose the ` +
      "threshold, so the figures flatter the model."],
    ["Threshold", `${decimals(calibration.threshold, 3)}. ${calibration.threshold_reason}`],
    ["Uncertain", `${decimals(calibration.uncertain_low, 3)}–${decimals(calibration.uncertain_high, 3)}. ${calibration.uncertain_reason}`],
    ["Evidence", card.bias === null ? "approximate: the network's head is not linear." : "exact: the cells add up to the logit."],
    ["For", card.intended_use],
    ["Limits", "It knows pneumonia or not, and no other disease. A film unlike those it has learnt from can be judged " +
      "wrong without being marked as uncertain."],
    ["Software", `${model.name} ${model.version}. Licence of the model: ${card.licence || "not stated"}.`],
  ];
  return el("dl", { class: "card" }, rows.map(([term, text]) => el("div", {}, el("dt", {}, term), el("dd", {}, text))));
}
