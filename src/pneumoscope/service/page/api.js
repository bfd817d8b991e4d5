// The service's own description, laid out to be read.

import { $, el } from "./dom.js";

document.documentElement.dataset.theme = localStorage.getItem("pneumoscope-theme") === "light" ? "light" : "dark";

const description = await (await fetch("openapi.json")).json();
const named = ({ $ref }) => description.components.schemas[$ref.split("/").pop()];

for (const [path, methods] of Object.entries(description.paths)) {
  for (const [method, operation] of Object.entries(methods)) $("operations").append(shown(path, method, operation));
}

function shown(path, method, { description: text, parameters = [], responses }) {
  return el("section", {},
    el("h2", {}, el("b", {}, method.toUpperCase()), ` ${path}`),
    ...text.replaceAll("`", "").split("\n\n").map((paragraph) => el("p", {}, paragraph)),
    table(parameters.map((one) => [`?${one.name}`, one.description ?? one.schema.type])),
    table(Object.entries(responses).map(([status, answer]) => [status, answer.description.replaceAll("`", ""), shape(answer)])),
  );
}

/** The keys of an answer, where it is one object. */
function shape({ content }) {
  const schema = content?.["application/json"]?.schema;
  return schema?.$ref ? `{ ${Object.keys(named(schema).properties).join(", ")} }` : "";
}

function table(rows) {
  if (!rows.length) return null;
  return el("table", {}, rows.map((cells) => el("tr", {}, cells.map((cell, i) => el(i ? "td" : "th", i ? {} : { scope: "row" }, cell)))));
}
