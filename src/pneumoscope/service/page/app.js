// The light box: images come in, go to the service, and are shown with what it says.

import { $, el } from "./dom.js";
import { paintRamp } from "./evidence.js";
import { asCsv, asJson, download } from "./exports.js";
import { attach } from "./list.js";
import { fromBase64, isShowable, thumbnail } from "./images.js";
import { openReport } from "./report.js";
import { about, predict } from "./service.js";
import { card, describe, learntFrom } from "./finding.js";
import * as viewer from "./viewer.js";
import { Entry, WorkList } from "./worklist.js";

const list = new WorkList();
let model = null;

// --- the way of an image

async function process(entry) {
  const showable = await isShowable(entry.file).catch(() => false);
  const seen = showable ? setImage(entry, entry.file) : null;
  entry.finding = await said(entry, !showable);
  entry.step = "done";
  if (entry.finding.preview) {
    await setImage(entry, fromBase64(entry.finding.preview.jpeg));
    delete entry.finding.preview;
  }
  await seen;
  list.changed(entry);
  if (entry === list.selected) present();
  announce();
}

/** What the service says of an image, or why it says nothing. */
async function said(entry, preview) {
  if (model && entry.file.size > model.limits.bytes) {
    const most = Math.floor(model.limits.bytes / 1e6);
    return { error: { kind: "too_large", message: `The service takes files of at most ${most} MB.` } };
  }
  const progress = (share) => {
    entry.sent = share;
    entry.step = share < 1 ? "sending" : "predicting";
    list.changed(entry);
    if (entry === list.selected) present();
  };
  try {
    const [finding] = await Promise.all([predict(entry.file, { preview, progress }), ready]);
    return finding;
  } catch (error) {
    return { error: { kind: "unreachable", message: error.message } };
  }
}

async function setImage(entry, blob) {
  entry.image = blob;
  entry.thumbnail = await thumbnail(blob).catch(() => null);
  if (!entry.thumbnail) entry.image = null;
  list.changed(entry);
  if (entry === list.selected) present();
}

function add(files) {
  const entries = files.filter((file) => !file.name.startsWith(".")).map((file) => new Entry(file));
  if (!entries.length) return;
  document.body.dataset.state = "images";
  list.add(entries);
  if (!list.selected) list.select(entries[0]);
  for (const entry of entries) process(entry);
}

// --- what is shown

function present() {
  const entry = list.selected;
  viewer.show(entry);
  if (!entry || !model) return;
  const report = el("button", { type: "button", click: () => openReport(entry, model, viewer.currentImage(), viewer.currentWindow()) }, "Report");
  const again = el("button", { type: "button", click: () => retry(entry) }, "Try again");
  const finding = entry.finding;
  $("finding").replaceChildren(
    el("h2", {}, entry.name),
    ...describe(entry, model),
    el("div", { class: "row" }, !finding ? null : finding.error?.kind === "unreachable" ? again : report),
    el("p", { class: "quiet limits" }, learntFrom(model)),
    el("details", {}, el("summary", {}, "The model and its limits"), card(model)),
  );
}

function retry(entry) {
  Object.assign(entry, { finding: null, step: "waiting", sent: 0 });
  list.changed(entry);
  present();
  process(entry);
}

function announce() {
  const n = list.entries.length;
  if (list.predicted === n || list.predicted % 25 === 0) $("said").textContent = `${list.predicted} of ${n} images read.`;
  if (list.predicted === n) warnOfSite();
}

/** Say it where many images are unlike those the model has learnt from. */
function warnOfSite() {
  const predicted = list.entries.filter((entry) => entry.finding && !entry.finding.error);
  const unlike = predicted.filter((entry) => entry.finding.warnings.includes("unlike_training_images")).length;
  // Wilson's lower limit of the share against three times the 1 % that is usual, as `pneumoscope predict` has it.
  const [n, z] = [predicted.length, 1.96];
  const p = unlike / n;
  const low = (p + z ** 2 / (2 * n) - z * Math.sqrt((p * (1 - p)) / n + z ** 2 / (4 * n ** 2))) / (1 + z ** 2 / n);
  $("site").hidden = !(n >= 20 && low > 0.03);
  $("site").textContent =
    `${unlike} of ${n} images are unlike those the model has learnt from. Its findings may be off here: ` +
    "measure it on labelled images of this site, or calibrate it on them.";
}

list.addEventListener("select", present);
attach(list);
paintRamp($("ramp"));

// --- ways in

$("add").addEventListener("click", () => $("files").click());
$("choose").addEventListener("click", () => $("files").click());
$("files").addEventListener("change", (event) => {
  add([...event.target.files]);
  event.target.value = "";
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

/** The files of what was dropped: a file itself, or all below a folder. */
async function filesOf(entry) {
  if (entry.isFile) return new Promise((resolve) => entry.file((file) => resolve([file]), () => resolve([])));
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
    if (!some.length) return found.flat();
    found.push(...(await Promise.all(some.map(filesOf))));
  }
}

// --- ways out

const finished = () => list.shown.filter((entry) => entry.finding);
$("csv").addEventListener("click", () => download(asCsv(finished()), "findings.csv", "text/csv"));
$("json").addEventListener("click", () => download(asJson(finished(), model), "findings.json", "application/json"));
$("clear").addEventListener("click", () => {
  list.clear();
  document.body.dataset.state = "empty";
});
$("print").addEventListener("click", () => print());

// --- the room

$("stage").addEventListener("keydown", (event) => {
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
  $("learnt").textContent = learntFrom(model);
  present();
});
ready.catch((error) => {
  $("learnt").textContent = `The service does not answer (${error.message}). Is it still running?`;
  $("learnt").className = "alert";
});
