// What the page's HTML says, and short ways to its elements.

export const timeZone = document.documentElement.dataset.timeZone;
export const mayDelete = "mayDelete" in document.documentElement.dataset;

export const byId = (id) => document.getElementById(id);

export const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** Make an element with text. Text from elsewhere is only ever set as text. */
export function make(name, text = "", className = "") {
  const element = document.createElement(name);
  element.textContent = text;
  if (className) element.className = className;
  return element;
}

export function plural(count, one, many = `${one}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

/** Return whether a dialog is open, which takes the keys. */
export const hasOpenDialog = () => document.querySelector("dialog[open]") !== null;
