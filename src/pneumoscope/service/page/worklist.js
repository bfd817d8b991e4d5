// The work list: every image that was added, what is known of it, and which are shown in which order.

export const KINDS = {
  all: ["all images", () => true],
  pneumonia: ["pneumonia", (entry) => entry.finding?.finding === "PNEUMONIA"],
  normal: ["normal", (entry) => entry.finding?.finding === "NORMAL"],
  uncertain: ["uncertain", (entry) => Boolean(entry.finding?.uncertain)],
  warned: ["with warnings", (entry) => Boolean(entry.finding?.warnings?.length)],
  rejected: ["rejected", (entry) => Boolean(entry.finding?.error)],
};

const ORDERS = {
  // Rejected images first: they are the ones that nobody has read. Then the likeliest; those still under way last.
  probability: (a, b) => rank(b) - rank(a) || a.number - b.number,
  name: (a, b) => a.name.localeCompare(b.name, "en", { numeric: true }) || a.number - b.number,
  arrival: (a, b) => a.number - b.number,
};

function rank(entry) {
  if (!entry.finding) return -1;
  return entry.finding.error ? 2 : entry.finding.probability;
}

/** One image: a file, and step by step its thumbnail, its preview and its finding. */
export class Entry {
  static #count = 0;

  constructor(file) {
    this.number = ++Entry.#count;
    this.file = file;
    this.name = file.name;
    this.step = "waiting"; // then "sending", "predicting", "done"
    this.sent = 0; // share of the file
    this.finding = null; // as the service gave it
    this.image = null; // a Blob that the browser can show: the file itself, or the service's preview
    this.thumbnail = null; // a canvas
  }
}

export class WorkList extends EventTarget {
  entries = [];
  selected = null;
  kind = "all";
  order = "probability";
  search = "";

  /** The images that are shown, in order. */
  get shown() {
    const wanted = this.search.toLowerCase();
    return this.entries
      .filter((entry) => KINDS[this.kind][1](entry) && entry.name.toLowerCase().includes(wanted))
      .sort(ORDERS[this.order]);
  }

  count(kind) {
    return this.entries.filter(KINDS[kind][1]).length;
  }

  get predicted() {
    return this.entries.filter((entry) => entry.finding).length;
  }

  add(entries) {
    this.entries.push(...entries);
    this.changed();
  }

  clear() {
    this.entries = [];
    this.select(null);
  }

  /** Show other images or another order. */
  arrange(settings) {
    Object.assign(this, settings);
    this.changed();
  }

  select(entry) {
    this.selected = entry;
    this.dispatchEvent(new Event("select"));
    this.changed();
  }

  /** Select the image so many places further on among those shown. */
  move(by) {
    const shown = this.shown;
    if (!shown.length) return;
    const place = shown.indexOf(this.selected);
    this.select(shown[Math.min(shown.length - 1, Math.max(0, place + by))]);
  }

  /** Tell that an image, or the list, is no longer as it was drawn. */
  changed(entry = null) {
    this.dispatchEvent(new CustomEvent("change", { detail: entry }));
  }
}
