// The work list on the page: a row an image, kept while it changes.

import { $, el, plural, probable } from "./dom.js";
import { inShort } from "./finding.js";
import { KINDS } from "./worklist.js";

const TAIL = 14; // characters at the end of a long name that stay in sight: names of one study differ there
const SHORT = 18; // characters of a name that stands whole

const rows = new WeakMap(); // item -> its row

/** Draw the list of a WorkList and let a person use it. */
export function attach(list) {
  $("show").append(...Object.keys(KINDS).map((kind) => el("option", { value: kind })));
  $("show").addEventListener("change", (event) => list.arrange({ kind: event.target.value }));
  $("order").addEventListener("change", (event) => list.arrange({ order: event.target.value }));
  $("search").addEventListener("input", (event) => list.arrange({ search: event.target.value }));
  $("images").addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8, Home: -Infinity, End: Infinity }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    list.move(by);
  });
  $("images").addEventListener("click", (event) => {
    const row = event.target.closest("[role=option]");
    if (!row) return;
    list.select(row.item);
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
  const wanted = shown.map((item) => row(item, list));
  const place = $("images");
  if (wanted.length !== place.children.length || wanted.some((node, i) => place.children[i] !== node)) {
    place.replaceChildren(...wanted);
  }
  for (const node of wanted) node.setAttribute("aria-selected", node.item === list.selected);
  const current = list.selected && shown.includes(list.selected) ? row(list.selected, list) : null;
  if (current) {
    place.setAttribute("aria-activedescendant", current.id);
    // Of the list alone: on a phone the page stays at the image.
    const { offsetTop: top, offsetHeight: height } = current;
    place.scrollTop = Math.min(top, Math.max(place.scrollTop, top + height - place.clientHeight));
  } else {
    place.removeAttribute("aria-activedescendant");
  }
  for (const option of $("show").options) {
    option.textContent = `${KINDS[option.value][0]} (${list.count(option.value)})`;
  }
  $("tally").textContent = tally(list, shown.length);
  $("progress").max = list.items.length || 1;
  $("progress").value = list.predicted;
  $("progress").classList.toggle("over", list.predicted === list.items.length);
}

function tally(list, shown) {
  const n = list.items.length;
  const words = { pneumonia: "pneumonia suspected", normal: "no pneumonia seen", rejected: "without a finding" };
  const counts = Object.entries(words).map(([kind, word]) => [list.count(kind), word]).filter(([count]) => count);
  const first = list.predicted < n ? `${list.predicted} of ${n} predicted` : plural(n, "image");
  const hidden = shown < n ? [`${shown} shown`] : [];
  return [first, ...counts.map(([count, word]) => `${count} ${word}`), ...hidden].join(" · ");
}

function row(item, list) {
  if (!rows.has(item)) {
    const node = el("li", { role: "option", id: `image-${item.number}`, "aria-selected": false });
    node.item = item;
    rows.set(item, node);
    fill(node, item);
  }
  return rows.get(item);
}

function fill(node, item) {
  const { finding } = item;
  const state = !finding ? "pending" : finding.error ? "rejected" : finding.finding.toLowerCase();
  node.className = state + (finding?.uncertain ? " uncertain" : "");
  const thumbnail = el("span", { class: "thumbnail" }, item.thumbnail);
  const bar = el("span", { class: "mini", "aria-hidden": "true" }, el("i"));
  bar.firstChild.style.width = `${100 * (finding ? (finding.probability ?? 0) : item.sent)}%`;
  const cut = item.name.length > SHORT ? item.name.length - TAIL : 0;
  const remarks = [finding?.warnings?.length ? "with warnings" : "", { true: "agreed", false: "disagreed" }[item.review?.agrees] ?? ""];
  node.replaceChildren(
    thumbnail,
    el("span", { class: "name", title: item.name },
      el("span", {}, item.name.slice(0, cut)),
      el("span", {}, item.name.slice(cut)),
    ),
    el("span", { class: "number" }, finding && !finding.error ? probable(finding.probability) : ""),
    el("span", { class: "short" }, [inShort(item), ...remarks].filter(Boolean).join(" – ")),
    bar,
  );
}
