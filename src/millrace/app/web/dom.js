// Small makers of elements. Text always goes in as text: nothing that a post says is ever markup.

/** `el("p", {class: "x"}, "text", child)`; attributes with a function are listeners. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** People's words: the direction follows the words themselves. */
export function words(tag, text, { language = "", ...attributes } = {}) {
  return el(tag, { dir: "auto", lang: language || null, ...attributes }, text);
}

/** How old what happened at `ms` is at `now`, both of the same clock. */
export function age(ms, now) {
  const minutes = Math.max(0, Math.round((now - ms) / 60000));
  if (minutes < 1) return "now";
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.round(minutes / 60);
  return hours < 48 ? `${hours} h` : `${Math.round(hours / 24)} d`;
}

export const count = (n) => n.toLocaleString("en");

export function number(x, digits = 3) {
  if (x === 0) return "0";
  const size = Math.abs(x);
  return size >= 1e-3 && size < 1e5 ? String(Number(x.toPrecision(digits))) : x.toExponential(1);
}

/** A row of a bar chart: label, a bar from `start` to `start + length` (fractions of the width), a number. */
export function bar(label, { start = 0, length, shown, negative = false, title = "" }) {
  const fill = el("div", { class: negative ? "fill neg" : "fill" });
  fill.style.insetInlineStart = `${100 * start}%`;
  fill.style.inlineSize = `${100 * Math.min(Math.max(length, 0), 1)}%`;
  return [
    el("div", { class: "label", title: title || null }, label),
    el("div", { class: "track", "aria-hidden": "true" }, fill),
    el("div", { class: "num" }, shown),
  ];
}
