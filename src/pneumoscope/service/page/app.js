// The page: images come in, go to the service, and are shown with what it says.

import { $, el } from "./dom.js";
import { paintRamp } from "./evidence.js";
import { asCsv, asJson, download } from "./exports.js";
import { card, described, trainedOn } from "./finding.js";
import { studyHeader } from "./header.js";
import { filesOf, isWanted, unpackedAll } from "./intake.js";
import { attach } from "./list.js";
import { fromBase64, isShowable, thumbnail } from "./pixels.js";
import { openReport } from "./report.js";
import { recall, reviewForm } from "./review.js";
import { samples } from "./samples.js";
import { about, predict } from "./service.js";
import * as viewer from "./viewer.js";
import { Item, WorkList } from "./worklist.js";

const list = new WorkList();
let model = null;

// --- the way of an image

async function process(item) {
  item.showable = await isShowable(item.file).catch(() => false);
  const seen = item.showable ? setBlob(item, item.file) : null;
  recall(item).then(() => item.review && changed(item)).catch(() => {});
  item.finding = await said(item);
  item.step = "done";
  if (item.finding.preview) {
    await setBlob(item, fromBase64(item.finding.preview.jpeg));
    delete item.finding.preview;
  }
  await seen;
  changed(item);
  announce();
}

/** What the service says of an image, or why it says nothing. */
async function said(item) {
  if (model && item.file.size > model.limits.bytes) {
    const most = Math.floor(model.limits.bytes / 1e6);
    return { error: { kind: "too_large", message: `The service takes files of at most ${most} MB.` } };
  }
  const progress = (share) => {
    item.sent = share;
    item.step = share < 1 ? "sending" : "predicting";
    changed(item);
  };
  try {
    const [finding] = await Promise.all([predict(item.file, { preview: !item.showable, progress }), ready]);
    return finding;
  } catch (error) {
    return { error: { kind: "unreachable", message: error.message } };
  }
}

async function setBlob(item, blob) {
  item.thumbnail = await thumbnail(blob).catch(() => null);
  item.blob = item.thumbnail && blob;
  if (!item.thumbnail) item.showable = false;
  changed(item);
}

function changed(item) {
  list.changed(item);
  if (item === list.selected) present();
}

async function add(files) {
  if (!files.length) return;
  const all = await unpackedAll(files, model?.limits.bytes ?? 1e9);
  const items = all.map((file) => new Item(file));
  if (!items.length) return;
  document.body.dataset.state = "images";
  list.add(items);
  if (!list.selected) list.select(items[0]);
  for (const item of items) process(item);
}

// --- what is shown

let presented = null; // the item and its state that the panel shows, so that a note being written stays

function present() {
  const item = list.selected;
  viewer.show(item);
  if (!item || !model) return;
  showStudies();
  const state = [item, item.finding, item.step, item.step === "sending" ? item.sent : 0];
  if (presented && state.every((part, i) => part === presented[i])) return;
  presented = state;
  const { finding } = item;
  const report = el("button", { type: "button", click: () => openReport(item, model, viewer.currentPicture(), viewer.currentWindow()) }, "Report");
  const again = el("button", { type: "button", click: () => retry(item) }, "Try again");
  $("finding").replaceChildren(
    el("h2", {}, item.name),
    ...described(item, model),
    el("div", { class: "row" }, !finding ? null : finding.error?.kind === "unreachable" ? again : report),
    finding && !finding.error ? reviewForm(item, () => list.changed(item)) : "",
    el("p", { class: "quiet limits" }, trainedOn(model)),
    el("details", {}, el("summary", {}, "The model and its limits"), card(model)),
  );
}

function retry(item) {
  Object.assign(item, { finding: null, step: "waiting", sent: 0 });
  changed(item);
  process(item);
}

function announce() {
  const n = list.items.length;
  if (list.predicted === n || list.predicted % 25 === 0) $("said").textContent = `${list.predicted} of ${n} images predicted.`;
  if (list.predicted === n) warnOfSite();
}

/** Say it where many images are unlike those the model was trained on. */
function warnOfSite() {
  const predicted = list.items.filter((item) => item.finding && !item.finding.error);
  const unlike = predicted.filter((item) => item.finding.warnings.some((key) => key.startsWith("unlike_training_"))).length;
  // Wilson's lower limit of the share against three times the 1 % that is usual, as `pneumoscope predict` has it.
  const [n, z] = [predicted.length, 1.96];
  const p = unlike / n;
  const low = (p + z ** 2 / (2 * n) - z * Math.sqrt((p * (1 - p)) / n + z ** 2 / (4 * n ** 2))) / (1 + z ** 2 / n);
  $("site").hidden = !(n >= 20 && low > 0.03);
  $("site").textContent =
    `${unlike} of ${n} images are unlike those the model was trained on. Its findings may be off here: ` +
    "measure it on labelled images of this site, or calibrate it on them.";
}

// --- whose study it is: from the file, on this screen alone, and only while it is switched on

let studies = false;

async function showStudies() {
  for (const item of studies ? viewer.items() : list.items) {
    if (studies && item.header === undefined) item.header = await studyHeader(item.file);
    viewer.setStudy(item, studies ? studyText(item.header) : "");
  }
}

function studyText(header) {
  const { patient, id, born, sex, studyDate, study, view } = header ?? {};
  const person = [patient, id, born && `born ${born}`, sex].filter(Boolean).join("   ");
  return [person, [studyDate, study, view].filter(Boolean).join("   ")].filter(Boolean).join("\n") || "No study header";
}

$("study").addEventListener("click", () => {
  studies = !studies;
  $("study").setAttribute("aria-pressed", studies);
  showStudies();
});

list.addEventListener("select", present);
attach(list);
paintRamp($("ramp"));

// --- ways in

for (const id of ["add", "choose"]) $(id).addEventListener("click", () => $("files").click());
for (const id of ["add-folder", "choose-folder"]) $(id).addEventListener("click", () => $("folder").click());
for (const id of ["files", "folder"]) {
  $(id).addEventListener("change", ({ target }) => {
    add([...target.files].filter((file) => id === "files" || isWanted(file)));
    target.value = "";
  });
}
$("samples").addEventListener("click", async () => {
  try {
    await add(await samples());
  } catch (error) {
    $("trained").textContent = error.message;
  }
});
document.addEventListener("paste", (event) => add([...event.clipboardData.files]));
for (const type of ["dragenter", "dragover"]) {
  document.addEventListener(type, (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("over");
});
document.addEventListener("drop", async (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const files = [...event.dataTransfer.files];
  add(entries.length ? (await Promise.all(entries.map(filesOf))).flat() : files);
});

// --- ways out

const finished = () => list.shown.filter((item) => item.finding);
$("csv").addEventListener("click", () => download(asCsv(finished()), "findings.csv", "text/csv"));
$("json").addEventListener("click", () => download(asJson(finished(), model), "findings.json", "application/json"));
$("clear").addEventListener("click", () => {
  list.clear();
  presented = null;
  document.body.dataset.state = "empty";
});
$("print").addEventListener("click", () => print());
addEventListener("beforeunload", (event) => {
  if (list.items.length) event.preventDefault(); // the browser asks whether the list may go
});

// --- the room

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.closest("input:not([type=range]), textarea, select")) return;
  if (event.key === "j" || event.key === "k") list.move(event.key === "j" ? 1 : -1);
  if (event.key === "?") $("keys").showModal();
});
$("keys-open").addEventListener("click", () => $("keys").showModal());
$("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  $("theme").setAttribute("aria-pressed", theme === "light");
  localStorage.setItem("pneumoscope-theme", theme);
}
setTheme(localStorage.getItem("pneumoscope-theme") === "light" ? "light" : "dark");

const ready = about().then((answer) => {
  model = answer;
  $("trained").textContent = trainedOn(model);
  present();
});
ready.catch((error) => {
  $("trained").textContent = `The service does not answer the page. ${error.message}`;
  $("trained").className = "alert";
});
