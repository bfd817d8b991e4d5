// A probability on a scale that shows the threshold and the uncertain band.

import { decimals, el, probable } from "./dom.js";

/**
 * @param {{probability: number, finding: string}} finding
 * @param {{threshold: number, uncertain_low: number, uncertain_high: number}} calibration
 */
export function scale({ probability, finding }, calibration) {
  const { threshold, uncertain_low: low, uncertain_high: high } = calibration;
  const label =
    `Probability ${probable(probability)} on a scale from 0 to 1; threshold ${decimals(threshold)}; ` +
    `uncertain from ${decimals(low)} to ${decimals(high)}`;
  const side = threshold < 0.5 ? "at" : "at before"; // where the label does not run into the end of the scale
  return el("div", { class: `scale ${finding.toLowerCase()}`, role: "img", "aria-label": label },
    el("div", { class: "bar" },
      at(el("i", { class: "band" }), low, high - low),
      at(el("i", { class: "tick" }), threshold),
      at(el("i", { class: "mark" }), probability),
    ),
    el("div", { class: "marks" },
      el("span", {}, "0"),
      threshold > 0.06 && threshold < 0.94 ? at(el("span", { class: side }, `threshold ${decimals(threshold)}`), threshold) : null,
      el("span", {}, "1"),
    ),
  );
}

function at(node, left, width = null) {
  node.style.left = `${100 * left}%`;
  if (width !== null) node.style.width = `${100 * width}%`;
  return node;
}
