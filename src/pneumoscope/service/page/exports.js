// The work list as a file: the columns and keys of `pneumoscope predict`.

import { el } from "./dom.js";

const COLUMNS = ["path", "probability", "finding", "uncertain", "threshold", "warnings", "error_kind", "error_message"];

/** Lay findings out as CSV. */
export function asCsv(entries) {
  const lines = entries.map(({ name, finding }) => {
    const row = { ...finding, path: name, error_kind: finding.error?.kind, error_message: finding.error?.message };
    row.warnings = (finding.warnings ?? []).join(";");
    return COLUMNS.map((column) => cell(row[column])).join(",");
  });
  return [COLUMNS.join(","), ...lines, ""].join("\n");
}

/** Lay findings out as JSON, with what they rest on. */
export function asJson(entries, model) {
  const { name, version, notice, card } = model;
  const findings = entries.map(({ name: path, finding }) => {
    const { probability = null, finding: word = null, uncertain = null, threshold = null, warnings = [], error } = finding;
    return { path, probability, finding: word, uncertain, threshold, warnings, error: error ?? null };
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
