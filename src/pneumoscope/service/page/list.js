// The work list on the page: a row a film, kept while it changes.

import { $, decimals, el, plural } from "./dom.js";
import { inShort } from "./verdict.js";
import { KINDS } from "./worklist.js";

const TAIL = 14; // characters at the end of a name that stay in sight: names of one study differ there

const rows = new WeakMap(); // film -> its row

/** Draw the list of a WorkList and let a person use it. */
export function attach(list) {
  $("show").append(...Object.keys(KINDS).map((kind) => el("option", { value: kind })));
  $("show").addEventListener("change", (event) => list.arrange({ kind: event.target.value }));
  $("order").addEventListener("change", (event) => list.arrange({ order: event.target.value }));
  $("search").addEventListener("input", (event) => list.arrange({ search: event.target.value }));
  $("films").addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8, Home: -Infinity, End: Infinity }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    list.move(by);
  });
  $("films").addEventListener("click", (event) => {
    const row = event.target.closest("[role=option]");
    if (!row) return;
    list.select(row.film);
    if (getComputedStyle($("viewer").parentElement).display === "flex") $("viewer").scrollIntoView(); // on a phone
  });
  let frame = 0;
  list.addEventListener("change", ({ detail }) => {
    if (detail && rows.has(detail)) fill(rows.get(detail), detail);
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(() => draw(list));
  });
}

function draw(list) {
  const shown = list.shown;
  const wanted = shown.map((film) => row(film, list));
  const place = $("films");
  if (wanted.length !== place.children.length || wanted.some((node, i) => place.children[i] !== node)) {
    place.replaceChildren(...wanted);
  }
  for (const node of wanted) node.setAttribute("aria-selected", node.film === list.selected);
  const current = list.selected && shown.includes(list.selected) ? row(list.selected, list) : null;
  if (current) {
    place.setAttribute("aria-activedescendant", current.id);
    // Of the list alone: on a phone the page stays at the film.
    const { offsetTop: top, offsetHeight: height } = current;
    place.scrollTop = Math.min(top, Math.max(place.scrollTop, top + height - place.clientHeight));
  } else {
    place.removeAttribute("aria-activedescendant");
  }
  for (const option of $("show").options) {
    option.textContent = `${KINDS[option.value][0]} (${list.count(option.value)})`;
  }
  $("tally").textContent = tally(list, shown.length);
  $("progress").max = list.films.length || 1;
  $("progress").value = list.judged;
  $("progress").classList.toggle("over", list.judged === list.films.length);
}

function tally(list, shown) {
  const n = list.films.length;
  const counts = ["pneumonia", "normal", "refused"].map((kind) => [list.count(kind), kind]).filter(([count]) => count);
  const first = list.judged < n ? `${list.judged} of ${n} judged` : plural(n, "film");
  const hidden = shown < n ? [`${shown} shown`] : [];
  return [first, ...counts.map(([count, kind]) => `${count} ${kind}`), ...hidden].join(" · ");
}

function row(film, list) {
  if (!rows.has(film)) {
    const node = el("li", { role: "option", id: `film-${film.number}`, "aria-selected": false });
    node.film = film;
    rows.set(film, node);
    fill(node, film);
  }
  return rows.get(film);
}

function fill(node, film) {
  const { finding } = film;
  const state = !finding ? "pending" : finding.error ? "refused" : finding.finding.toLowerCase();
  node.className = state + (finding?.uncertain ? " uncertain" : "");
  const thumbnail = el("span", { class: "thumbnail" }, film.thumbnail);
  const bar = el("span", { class: "mini", "aria-hidden": "true" }, el("i"));
  bar.firstChild.style.width = `${100 * (finding ? (finding.probability ?? 0) : film.sent)}%`;
  const short = inShort(film) + (finding?.warnings?.length ? " – with warnings" : "");
  node.replaceChildren(
    thumbnail,
    el("span", { class: "name", title: film.name },
      el("span", {}, film.name.slice(0, -TAIL)),
      el("span", {}, film.name.slice(-TAIL)),
    ),
    el("span", { class: "number" }, finding && !finding.error ? decimals(finding.probability) : ""),
    el("span", { class: "short" }, short),
    bar,
  );
}
