// The service's own description, laid out to be read and to be tried.

import { $, el } from "./dom.js";
import { authorization, setToken } from "./service.js";
import { pretty, tryForm } from "./try.js";

const WRITTEN = "http://127.0.0.1:8000/"; // what the examples say; the page puts its own address there

document.documentElement.dataset.theme = localStorage.getItem("pneumoscope-theme") === "light" ? "light" : "dark";

const address = new URL("./", location.href).href;
for (const code of document.querySelectorAll("pre")) code.textContent = code.textContent.replaceAll(WRITTEN, address);

const description = await (await fetch("openapi.json")).json();
const { schemas, securitySchemes } = description.components;
const named = ({ $ref }) => schemas[$ref.split("/").pop()];

if (securitySchemes) {
  $("token-section").hidden = false;
  $("token-input").value = authorization().Authorization?.slice("Bearer ".length) ?? "";
  $("token-input").addEventListener("input", ({ target }) => setToken(target.value));
  $("token-form").addEventListener("submit", (event) => event.preventDefault());
}
for (const [path, methods] of Object.entries(description.paths)) {
  for (const [method, operation] of Object.entries(methods)) $("operations").append(shown(path, method, operation));
}
$("finding-shape").append(
  table(Object.entries(schemas.FindingAnswer.properties).map(([name, { description: text }]) => [name, plain(text ?? "")])),
  ...schemas.FindingAnswer.examples.map((example) => el("pre", { tabindex: 0 }, pretty(example))),
);
$("warning-words").append(words(schemas.FindingWarning));
$("error-words").append(words(schemas.ErrorKind), el("pre", { tabindex: 0 }, pretty(schemas.ErrorAnswer.examples[0])));

function shown(path, method, operation) {
  const { description: text, parameters = [], responses, security } = operation;
  return el("section", {},
    el("h2", {}, el("b", {}, method.toUpperCase()), ` ${path}`),
    ...text.split("\n\n").map((paragraph) => el("p", {}, plain(paragraph))),
    securitySchemes && security?.length === 0 ? el("p", { class: "quiet" }, "Asks for no token.") : null,
    table(parameters.map((one) => [one.in === "path" ? `{${one.name}}` : `?${one.name}`, one.description ?? one.schema.type])),
    table(Object.entries(responses).map(([status, answer]) => [status, plain(answer.description), shape(answer)])),
    tryForm(address, path, method, operation),
  );
}

function plain(text) {
  return text.replaceAll("`", "");
}

/** The keys of an answer, where it is one object. */
function shape({ content }) {
  const schema = content?.["application/json"]?.schema;
  return schema?.$ref ? `{ ${Object.keys(named(schema).properties).join(", ")} }` : "";
}

/** What each of a schema's words means. */
function words(schema) {
  return table(schema.enum.map((word, i) => [word, plain(schema["x-enum-descriptions"][i])]));
}

function table(rows) {
  if (!rows.length) return null;
  return el("table", {}, rows.map((cells) => el("tr", {}, cells.map((cell, i) => el(i ? "td" : "th", i ? {} : { scope: "row" }, cell)))));
}
