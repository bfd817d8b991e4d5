// The service, as the page sees it: v1/* below the page's own address, and nothing else.

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

/** Keep a token for this tab. */
export const setToken = (token) => sessionStorage.setItem(KEY, token.trim());

/** The headers that show the token, where there is one. */
export function authorization() {
  const token = sessionStorage.getItem(KEY);
  return token ? { Authorization: `Bearer ${token}` } : {};
}

function askForToken() {
  asked ??= new Promise((resolve) => {
    const dialog = $("token");
    dialog.addEventListener("close", () => {
      setToken($("token-input").value);
      asked = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asked;
}

/** What the model says of itself, and what the service allows. */
export async function about() {
  const answer = await fetch("v1/model", { headers: authorization() });
  if (answer.status === 401) {
    await askForToken();
    return about();
  }
  if (!answer.ok) throw new Error((await answer.json().catch(() => null))?.error?.message ?? `It answers ${answer.status}.`);
  return answer.json();
}

/**
 * Predict one image. Its name is not sent.
 * @param {File} file
 * @param {{preview: boolean, progress: (share: number) => void}} options  progress runs to 1 while the image is sent
 * @returns {Promise<object>} a finding as POST /v1/predict lays it out
 */
export async function predict(file, { preview, progress }) {
  const { status, body } = await answered(file, `v1/predict?evidence=true&preview=${preview}`, progress);
  return body?.findings?.[0] ?? { error: body?.error ?? foreign(status) };
}

/** The values of an image with all their bits, as POST /v1/values lays them out; its name is not sent. */
export async function values(file) {
  const { status, body } = await answered(file, "v1/values");
  if (!body?.png) throw new Error((body?.error ?? foreign(status)).message);
  return body;
}

/** What to say of an answer that is not the service's own: a proxy before it has spoken. */
function foreign(status) {
  if (status === 413) return { kind: "too_large", message: "A proxy before the service takes no file of this size (nginx: client_max_body_size)." };
  return { kind: "failed", message: `Something before the service answered ${status}: is the proxy set up as the documentation says?` };
}

async function answered(file, path, progress = () => {}) {
  await turn();
  try {
    for (;;) {
      const answer = await send(file, path, progress);
      if (answer.status === 401) await askForToken();
      else if (answer.status === 503) await pause(1000 * answer.retryAfter * (1 + Math.random() / 2));
      else return answer;
    }
  } finally {
    next();
  }
}

function send(file, path, progress) {
  const form = new FormData();
  form.append("images", file, "image");
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch does not tell how much of a file is sent
    request.open("POST", path);
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
