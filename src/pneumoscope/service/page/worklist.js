// The work list: every film that was added, what is known of it, and which are shown in which order.

export const KINDS = {
  all: ["all films", () => true],
  pneumonia: ["pneumonia", (film) => film.finding?.finding === "PNEUMONIA"],
  normal: ["normal", (film) => film.finding?.finding === "NORMAL"],
  uncertain: ["uncertain", (film) => Boolean(film.finding?.uncertain)],
  warned: ["with warnings", (film) => Boolean(film.finding?.warnings?.length)],
  refused: ["refused", (film) => Boolean(film.finding?.error)],
};

const ORDERS = {
  // Refused films first: they are the ones that nobody has judged. Then the likeliest; those still under way last.
  probability: (a, b) => rank(b) - rank(a) || a.number - b.number,
  name: (a, b) => a.name.localeCompare(b.name, "en", { numeric: true }) || a.number - b.number,
  arrival: (a, b) => a.number - b.number,
};

function rank(film) {
  if (!film.finding) return -1;
  return film.finding.error ? 2 : film.finding.probability;
}

/** One film: a file, and step by step its thumbnail, its preview and its finding. */
export class Film {
  static #count = 0;

  constructor(file) {
    this.number = ++Film.#count;
    this.file = file;
    this.name = file.name;
    this.step = "waiting"; // then "sending", "judging", "done"
    this.sent = 0; // share of the file
    this.finding = null; // as the service gave it
    this.picture = null; // a Blob that the browser can show: the file itself, or the service's preview
    this.thumbnail = null; // a canvas
  }
}

export class WorkList extends EventTarget {
  films = [];
  selected = null;
  kind = "all";
  order = "probability";
  search = "";

  /** The films that are shown, in order. */
  get shown() {
    const wanted = this.search.toLowerCase();
    return this.films
      .filter((film) => KINDS[this.kind][1](film) && film.name.toLowerCase().includes(wanted))
      .sort(ORDERS[this.order]);
  }

  count(kind) {
    return this.films.filter(KINDS[kind][1]).length;
  }

  get judged() {
    return this.films.filter((film) => film.finding).length;
  }

  add(films) {
    this.films.push(...films);
    this.changed();
  }

  clear() {
    this.films = [];
    this.select(null);
  }

  /** Show other films or another order. */
  arrange(settings) {
    Object.assign(this, settings);
    this.changed();
  }

  select(film) {
    this.selected = film;
    this.dispatchEvent(new Event("select"));
    this.changed();
  }

  /** Select the film so many places further on among those shown. */
  move(by) {
    const shown = this.shown;
    if (!shown.length) return;
    const place = shown.indexOf(this.selected);
    this.select(shown[Math.min(shown.length - 1, Math.max(0, place + by))]);
  }

  /** Tell that a film, or the list, is no longer as it was drawn. */
  changed(film = null) {
    this.dispatchEvent(new CustomEvent("change", { detail: film }));
  }
}
