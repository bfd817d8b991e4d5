// The light box: films come in, go to the service, and are shown with what it says.

import { $, el } from "./dom.js";
import { paintRamp } from "./evidence.js";
import { asCsv, asJson, download } from "./exports.js";
import { attach } from "./list.js";
import { fromBase64, isShowable, thumbnail } from "./pictures.js";
import { openReport } from "./report.js";
import { about, judge } from "./service.js";
import { card, learntFrom, verdict } from "./verdict.js";
import * as viewer from "./viewer.js";
import { Film, WorkList } from "./worklist.js";

const list = new WorkList();
let model = null;

// --- the way of a film

async function process(film) {
  const showable = await isShowable(film.file).catch(() => false);
  const seen = showable ? setPicture(film, film.file) : null;
  film.finding = await said(film, !showable);
  film.step = "done";
  if (film.finding.preview) {
    await setPicture(film, fromBase64(film.finding.preview.jpeg));
    delete film.finding.preview;
  }
  await seen;
  list.changed(film);
  if (film === list.selected) present();
  announce();
}

/** What the service says of a film, or why it says nothing. */
async function said(film, preview) {
  if (model && film.file.size > model.limits.bytes) {
    const most = Math.floor(model.limits.bytes / 1e6);
    return { error: { kind: "too_large", message: `The service takes files of at most ${most} MB.` } };
  }
  const progress = (share) => {
    film.sent = share;
    film.step = share < 1 ? "sending" : "judging";
    list.changed(film);
    if (film === list.selected) present();
  };
  try {
    const [finding] = await Promise.all([judge(film.file, { preview, progress }), ready]);
    return finding;
  } catch (error) {
    return { error: { kind: "unreachable", message: error.message } };
  }
}

async function setPicture(film, blob) {
  film.picture = blob;
  film.thumbnail = await thumbnail(blob).catch(() => null);
  if (!film.thumbnail) film.picture = null;
  list.changed(film);
  if (film === list.selected) present();
}

function add(files) {
  const films = files.filter((file) => !file.name.startsWith(".")).map((file) => new Film(file));
  if (!films.length) return;
  document.body.dataset.state = "films";
  list.add(films);
  if (!list.selected) list.select(films[0]);
  for (const film of films) process(film);
}

// --- what is shown

function present() {
  const film = list.selected;
  viewer.show(film);
  if (!film || !model) return;
  const report = el("button", { type: "button", click: () => openReport(film, model, viewer.currentPicture(), viewer.currentWindow()) }, "Report");
  const again = el("button", { type: "button", click: () => retry(film) }, "Try again");
  const finding = film.finding;
  $("verdict").replaceChildren(
    el("h2", {}, film.name),
    ...verdict(film, model),
    el("div", { class: "row" }, !finding ? null : finding.error?.kind === "unreachable" ? again : report),
    el("p", { class: "quiet limits" }, learntFrom(model)),
    el("details", {}, el("summary", {}, "The model and its limits"), card(model)),
  );
}

function retry(film) {
  Object.assign(film, { finding: null, step: "waiting", sent: 0 });
  list.changed(film);
  present();
  process(film);
}

function announce() {
  const n = list.films.length;
  if (list.judged === n || list.judged % 25 === 0) $("said").textContent = `${list.judged} of ${n} films judged.`;
  if (list.judged === n) warnOfSite();
}

/** Say it where many films are unlike those the model has learnt from. */
function warnOfSite() {
  const judged = list.films.filter((film) => film.finding && !film.finding.error);
  const unlike = judged.filter((film) => film.finding.warnings.includes("unlike_training_films")).length;
  // Wilson's lower limit of the share against three times the 1 % that is usual, as `pneumoscope predict` has it.
  const [n, z] = [judged.length, 1.96];
  const p = unlike / n;
  const low = (p + z ** 2 / (2 * n) - z * Math.sqrt((p * (1 - p)) / n + z ** 2 / (4 * n ** 2))) / (1 + z ** 2 / n);
  $("site").hidden = !(n >= 20 && low > 0.03);
  $("site").textContent =
    `${unlike} of ${n} films are unlike those the model has learnt from. Its verdicts may be off here: ` +
    "measure it on labelled films of this site, or calibrate it on them.";
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

const finished = () => list.shown.filter((film) => film.finding);
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
