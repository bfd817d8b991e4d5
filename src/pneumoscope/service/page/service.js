// The service, as the page sees it: /v1/* and nothing else.

import { $ } from "./dom.js";

const AT_ONCE = 4;
const KEY = "pneumoscope-token";

let asked = null; // the one question for a token, while it stands

// The command prints an address that ends in #token=...: a browser never sends that part to anybody.
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  sessionStorage.setItem(KEY, given);
  history.replaceState(null, "", location.pathname);
}

function authorization() {
  const token = sessionStorage.getItem(KEY);
  return token ? { Authorization: `Bearer ${token}` } : {};
}

function askForToken() {
  asked ??= new Promise((resolve) => {
    const dialog = $("token");
    dialog.addEventListener("close", () => {
      sessionStorage.setItem(KEY, $("token-input").value.trim());
      asked = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asked;
}

/** What the model says of itself, and what the service allows. */
export async function about() {
  const answer = await fetch("/v1/model", { headers: authorization() });
  if (answer.status === 401) {
    await askForToken();
    return about();
  }
  if (!answer.ok) throw new Error(`the service answers ${answer.status}`);
  return answer.json();
}

/**
 * Have one image read. Its name is not sent.
 * @param {File} file
 * @param {{preview: boolean, progress: (share: number) => void}} options  progress runs to 1 while the image is sent
 * @returns {Promise<object>} a finding as POST /v1/predict lays it out
 */
export async function predict(file, { preview, progress }) {
  await turn();
  try {
    for (;;) {
      const { status, body, retryAfter } = await send(file, preview, progress);
      if (status === 401) await askForToken();
      else if (status === 503) await pause(1000 * retryAfter * (1 + Math.random() / 2));
      else if (body?.findings) return body.findings[0];
      else return { error: body?.error ?? { kind: "failed", message: `The service answered ${status}.` } };
    }
  } finally {
    next();
  }
}

function send(file, preview, progress) {
  const form = new FormData();
  form.append("images", file, "image");
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch does not tell how much of an image is sent
    request.open("POST", `/v1/predict?evidence=true&preview=${preview}`);
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
    request.responseType = "json";
    request.upload.onprogress = (event) => progress(event.loaded / event.total);
    request.upload.onload = () => progress(1);
    request.onload = () => resolve({
      status: request.status,
      body: request.response,
      retryAfter: Number(request.getResponseHeader("Retry-After")) || 1,
    });
    request.onerror = () => reject(new Error("The service does not answer. Is it still running?"));
    request.send(form);
  });
}

const waiting = [];
let running = 0;

function turn() {
  if (running < AT_ONCE) {
    running += 1;
    return Promise.resolve();
  }
  return new Promise((resolve) => waiting.push(resolve));
}

function next() {
  const first = waiting.shift();
  if (first) first();
  else running -= 1;
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
