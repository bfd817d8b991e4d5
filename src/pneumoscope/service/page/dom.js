// Small things that every part of the page uses.

export const $ = (id) => document.getElementById(id);

/** Make an element; properties that are functions listen, others are attributes; null children are left out. */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

export const decimals = (value, places = 2) => value.toFixed(places);
export const plural = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;

/** A probability to two places; none is certain, so that neither 0.00 nor 1.00 is said. */
export function probable(value) {
  if (value > 0.99) return "> 0.99";
  return value < 0.01 ? "< 0.01" : decimals(value);
}
