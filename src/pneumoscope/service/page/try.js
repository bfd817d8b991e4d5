// A form for each address of the service, made from its description, to try it without a program.

import { el } from "./dom.js";
import { samples } from "./samples.js";
import { authorization } from "./service.js";

const FORM = "multipart/form-data";
const RELATED = "multipart/related";
const LONGEST = 100; // characters of a text that is shown whole
const MOST = 20_000; // characters of an answer

/**
 * Make the form.
 * @param {string} address  of the service, with a slash at its end
 * @param {string} path  below it, with the names of its parameters in braces
 * @param {string} method  in small letters
 * @param {object} operation  as OpenAPI describes it
 */
export function tryForm(address, path, method, { parameters = [], requestBody, responses }) {
  const kind = Object.keys(requestBody?.content ?? {})[0];
  const answers = Object.keys(responses[200]?.content ?? {});
  const inputs = parameters.map((one) => [one, el("input", one.schema.type === "boolean" ? { type: "checkbox" } : { type: "text", required: one.in === "path", spellcheck: "false" })]);
  const files = kind && el("input", { type: "file", multiple: true, required: kind === RELATED });
  const accept = answers.length > 1 && el("select", {}, answers.map((type) => el("option", {}, type)));
  const send = el("button", { class: "strong" }, "Send");
  const status = el("p", { role: "status" });
  const command = el("pre", { tabindex: 0, hidden: true, "aria-label": "The same by curl" });
  const body = el("pre", { tabindex: 0, hidden: true, class: "answer", "aria-label": "The answer" });

  async function submit(event) {
    event.preventDefault(); // the content policy lets no form go anywhere by itself
    send.disabled = true;
    status.textContent = "On its way…";
    try {
      const url = addressed(address, path, inputs);
      const images = files && (files.files.length || kind === RELATED ? [...files.files] : (await samples()).slice(0, 1));
      const headers = { ...authorization(), ...(accept ? { Accept: accept.value } : {}) };
      show(command, curl(url, method, kind, images, accept && accept.value !== answers[0] ? accept.value : null));
      const began = performance.now();
      const answer = await fetch(url, { method: method.toUpperCase(), ...written(kind, images, headers) });
      show(body, await readable(answer));
      status.textContent = `${answer.status} ${answer.statusText} after ${((performance.now() - began) / 1000).toFixed(2)} s`.replace("  ", " ");
    } catch (error) {
      status.textContent = `No answer: ${error.message}`;
      body.hidden = true;
    }
    send.disabled = false;
  }

  return el("details", { class: "try" },
    el("summary", {}, "Try it"),
    el("form", { submit },
      inputs.map(([one, input]) => el("label", { class: "field" }, one.name, input)),
      files ? el("label", { class: "field" }, kind === RELATED ? "DICOM files" : "Images; a sample where none is chosen", files) : null,
      accept ? el("label", { class: "field" }, "Answer as", accept) : null,
      send,
    ),
    status, command, body,
  );
}

/** Write JSON to be read: rows of numbers in one line, long texts cut. */
export function pretty(value) {
  const cut = (key, one) => (typeof one === "string" && one.length > 4 * LONGEST ? `${one.slice(0, LONGEST)}… (${one.length.toLocaleString("en")} characters)` : one);
  return JSON.stringify(value, cut, 2).replace(/\[[-\d.,e\s]+\]/g, (row) => row.replace(/\s+/g, " "));
}

function show(node, text) {
  node.textContent = text;
  node.hidden = false;
}

function addressed(address, path, inputs) {
  const query = new URLSearchParams();
  let place = path.slice(1);
  for (const [{ name, in: where }, input] of inputs) {
    if (where === "path") place = place.replace(`{${name}}`, encodeURIComponent(input.value.trim()));
    else if (input.type === "checkbox" ? input.checked : input.value) query.set(name, input.type === "checkbox" ? "true" : input.value);
  }
  return `${address}${place}${query.size ? `?${query}` : ""}`;
}

/** The headers and the body of a request with images. Their names stay on the page. */
function written(kind, images, headers) {
  if (!kind) return { headers };
  if (kind === FORM) {
    const form = new FormData();
    images.forEach((image, i) => form.append("images", image, `image-${i + 1}`));
    return { headers, body: form };
  }
  const boundary = crypto.getRandomValues(new Uint32Array(4)).join("-");
  const parts = images.flatMap((image) => [`--${boundary}\r\nContent-Type: application/dicom\r\n\r\n`, image, "\r\n"]);
  const type = `${RELATED}; type="application/dicom"; boundary="${boundary}"`;
  return { headers: { ...headers, "Content-Type": type }, body: new Blob([...parts, `--${boundary}--\r\n`]) };
}

function curl(url, method, kind, images, accept) {
  const words = ["curl"];
  if (authorization().Authorization) words.push('-H "Authorization: Bearer $PNEUMOSCOPE_TOKEN"');
  if (accept) words.push(`-H 'Accept: ${accept}'`);
  if (kind === FORM) words.push(...images.map((image, i) => `-F images=@image-${i + 1}`));
  if (kind === RELATED) words.push(`-H 'Content-Type: ${RELATED}; type="application/dicom"; boundary=…'`, "--data-binary @parts");
  if (!kind && method !== "get") words.push(`-X ${method.toUpperCase()}`);
  return [...words, `'${url}'`].join(" ");
}

async function readable(answer) {
  const type = answer.headers.get("Content-Type") ?? "";
  if (type.startsWith(RELATED)) return `${type.split(";")[0]}, ${(await answer.arrayBuffer()).byteLength.toLocaleString("en")} bytes`;
  const text = await answer.text();
  if (/^application\/([\w.+-]+\+)?json\b/.test(type)) return pretty(JSON.parse(text));
  return text.length > MOST ? `${text.slice(0, MOST)}…` : text;
}
