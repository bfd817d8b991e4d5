// The work list: every image that was added, what is known of it, and which are shown in which order.

export const KINDS = {
  all: ["all images", () => true],
  pneumonia: ["pneumonia suspected", (item) => item.finding?.finding === "PNEUMONIA"],
  normal: ["no pneumonia seen", (item) => item.finding?.finding === "NORMAL"],
  uncertain: ["uncertain", (item) => Boolean(item.finding?.uncertain)],
  warned: ["with warnings", (item) => Boolean(item.finding?.warnings?.length)],
  rejected: ["without a finding", (item) => Boolean(item.finding?.error)],
  disagreed: ["disagreed with", (item) => item.review?.agrees === false],
};

const ORDERS = {
  // Those without a finding first: nobody has looked at them. Then the likeliest; those still under way last.
  probability: (a, b) => rank(b) - rank(a) || a.number - b.number,
  name: (a, b) => a.name.localeCompare(b.name, "en", { numeric: true }) || a.number - b.number,
  arrival: (a, b) => a.number - b.number,
};

function rank(item) {
  if (!item.finding) return -1;
  return item.finding.error ? 2 : item.finding.probability;
}

/** One image: a file, and step by step its thumbnail, its pixels and its finding. */
export class Item {
  static #count = 0;

  constructor(file) {
    this.number = ++Item.#count;
    this.file = file;
    this.name = file.path || file.webkitRelativePath || file.name; // of a folder's files: two may be called the same
    this.step = "waiting"; // then "sending", "predicting", "done"
    this.sent = 0; // share of the file
    this.finding = null; // as the service gave it
    this.blob = null; // what the browser can show: the file itself, or the service's preview
    this.showable = false; // whether the file itself is shown, with all its bits
    this.thumbnail = null; // a canvas
    this.review = null; // what a person thinks of the finding
    this.header = undefined; // patient and study, once asked for
    this.study = ""; // what of them stands on the image
  }
}

export class WorkList extends EventTarget {
  items = [];
  selected = null;
  kind = "all";
  order = "probability";
  search = "";

  /** The items that are shown, in order. */
  get shown() {
    const wanted = this.search.toLowerCase();
    return this.items
      .filter((item) => KINDS[this.kind][1](item) && item.name.toLowerCase().includes(wanted))
      .sort(ORDERS[this.order]);
  }

  count(kind) {
    return this.items.filter(KINDS[kind][1]).length;
  }

  get predicted() {
    return this.items.filter((item) => item.finding).length;
  }

  add(items) {
    this.items.push(...items);
    this.changed();
  }

  clear() {
    this.items = [];
    this.select(null);
  }

  /** Show other items or another order. */
  arrange(settings) {
    Object.assign(this, settings);
    this.changed();
  }

  select(item) {
    this.selected = item;
    this.dispatchEvent(new Event("select"));
    this.changed();
  }

  /** Select the item so many places further on among those shown. */
  move(by) {
    const shown = this.shown;
    if (!shown.length) return;
    const place = shown.indexOf(this.selected);
    this.select(shown[Math.min(shown.length - 1, Math.max(0, place + by))]);
  }

  /** Tell that an item, or the list, is no longer as it was drawn. */
  changed(item = null) {
    this.dispatchEvent(new CustomEvent("change", { detail: item }));
  }
}
