// What a person thinks of a finding: kept in this browser under the hash of the file, never sent.

import { el } from "./dom.js";

const KEY = "pneumoscope-review-";

/** The hash of a file's bytes; null where the browser hashes nothing, as on a page without TLS. */
async function hash(file) {
  if (!crypto.subtle) return null;
  const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Recall what was thought of the same file before. */
export async function recall(item) {
  const key = await hash(item.file);
  const kept = key && localStorage.getItem(KEY + key);
  item.review ??= kept ? JSON.parse(kept) : null;
}

async function keep(item) {
  const key = await hash(item.file);
  if (!key) return;
  if (item.review) localStorage.setItem(KEY + key, JSON.stringify(item.review));
  else localStorage.removeItem(KEY + key);
}

/**
 * The form in which a person agrees or disagrees.
 * @param {object} item
 * @param {() => void} changed  called after each change
 */
export function reviewForm(item, changed) {
  const set = (change) => {
    const { agrees = null, note = "" } = { ...item.review, ...change };
    item.review = agrees === null && !note ? null : { agrees, note };
    for (const button of buttons) button.setAttribute("aria-pressed", String(item.review?.agrees === (button.value === "agree")));
    keep(item).catch(() => {}); // a full or locked store: the export still has it
    changed();
  };
  const button = (value, text, agrees) => el("button", {
    type: "button", value, "aria-pressed": String(item.review?.agrees === agrees),
    click: () => set({ agrees: item.review?.agrees === agrees ? null : agrees }),
  }, text);
  const buttons = [button("agree", "Agree", true), button("disagree", "Disagree", false)];
  const note = el("textarea", {
    rows: 2, placeholder: "A note, kept in this browser and exported", "aria-label": "Note",
    input: () => set({ note: note.value }),
  });
  note.value = item.review?.note ?? "";
  return el("div", { class: "review", role: "group", "aria-label": "What you think of it" }, el("div", { class: "row" }, buttons), note);
}
