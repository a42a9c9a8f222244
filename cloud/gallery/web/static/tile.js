// The element of a tile: the best picture of a visit, how many more there are, time and camera.

import { byId, plural } from "./page.js";
import { clock } from "./times.js";
import { pathOf, pictureOf } from "./server.js";

const MARGIN = "600px 0px";

const loader = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    loader.unobserve(target);
    target.src = target.dataset.src;
  }
}, { rootMargin: MARGIN });

export function makeTile(tile) {
  const element = byId("tile-template").content.firstElementChild.cloneNode(true);
  const picture = element.querySelector("img");
  picture.addEventListener("load", () => element.classList.add("loaded"));
  picture.addEventListener("error", () => element.classList.add("no-picture"));
  updateTile(element, tile);
  return element;
}

/** Show what a tile says now. */
export function updateTile(element, tile) {
  const shown = { ...tile, id: tile.best.id };
  element.querySelector(".tile-link").href = `/?face=${pathOf(shown)}`;
  const time = element.querySelector("time");
  time.textContent = clock(tile.ms);
  time.dateTime = tile.time;
  const camera = element.querySelector(".camera");
  camera.textContent = tile.camera;
  camera.title = `${tile.camera}, ${tile.device}`;
  const more = element.querySelector(".more");
  more.hidden = tile.count < 2;
  more.firstElementChild.textContent = `+${(tile.count - 1).toLocaleString("en")}`;
  more.lastElementChild.textContent = plural(tile.count, "picture");
  const check = element.querySelector(".check input");
  if (check) check.setAttribute("aria-label", `Select ${tile.camera}, ${clock(tile.ms)}`);
  setPicture(element, pictureOf(shown));
}

function setPicture(element, url) {
  const picture = element.querySelector("img");
  if (picture.dataset.src === url) return;
  picture.dataset.src = url;
  element.classList.remove("loaded", "no-picture");
  picture.removeAttribute("src");
  loader.unobserve(picture);
  loader.observe(picture);
}

/** Load a picture again that could not be loaded. */
export function retryPicture(element) {
  if (!element.classList.contains("no-picture")) return;
  const picture = element.querySelector("img");
  element.classList.remove("no-picture");
  picture.removeAttribute("src");
  picture.src = picture.dataset.src;
}

/** Give back what a tile holds, before it is removed. */
export function dropTile(element) {
  const picture = element.querySelector("img");
  loader.unobserve(picture);
  picture.removeAttribute("src");
  element.remove();
}
