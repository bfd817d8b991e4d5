// The work list as a file: the columns and keys of `pneumoscope predict`, and what a person noted.

import { el } from "./dom.js";

const COLUMNS = ["path", "probability", "finding", "uncertain", "threshold", "warnings", "error_kind", "error_message"];
const REVIEW = ["review", "review_note"];

const word = (review) => ({ true: "agree", false: "disagree" })[review?.agrees] ?? null;

/** Lay findings out as CSV; with columns for what was noted, where something was. */
export function asCsv(items) {
  const columns = items.some((item) => item.review) ? [...COLUMNS, ...REVIEW] : COLUMNS;
  const lines = items.map(({ name, finding, review }) => {
    const row = { ...finding, path: name, error_kind: finding.error?.kind, error_message: finding.error?.message };
    Object.assign(row, { warnings: (finding.warnings ?? []).join(";"), review: word(review), review_note: review?.note });
    return columns.map((column) => cell(row[column])).join(",");
  });
  return [columns.join(","), ...lines, ""].join("\n");
}

/** Lay findings out as JSON, with what they rest on. */
export function asJson(items, model) {
  const { name, version, notice, card } = model;
  const findings = items.map(({ name: path, finding: said, review }) => {
    const { probability = null, finding = null, uncertain = null, threshold = null, warnings = [], error = null } = said;
    const noted = review ? { review: word(review), review_note: review.note } : {};
    return { path, probability, finding, uncertain, threshold, warnings, error, ...noted };
  });
  const { architecture, calibration, data } = card;
  return JSON.stringify({ software: `${name} ${version}`, notice, model: { architecture, calibration, data }, findings }, null, 2);
}

/** Hand a text to the browser as a download. */
export function download(text, filename, type) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  el("a", { href: address, download: filename }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

function cell(value) {
  let text = value === null || value === undefined ? "" : String(value);
  if (typeof value === "boolean") text = value ? "True" : "False"; // as the command writes them
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`; // no spreadsheet is to run a file's name
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
