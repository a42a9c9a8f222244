// Deletes faces, after a question that names their number.

import { filtersOf } from "./address.js";
import { byId, plural } from "./page.js";
import { load, pathOf, send } from "./server.js";

const PER_REQUEST = 1000;
const AT_ONCE = 4;

/** Ask whether to delete so many pictures. */
export function ask(pictures, words) {
  const dialog = byId("ask");
  byId("ask-title").textContent = `Delete ${plural(pictures, "picture")}?`;
  byId("ask-words").textContent = words;
  byId("ask-delete").textContent = `Delete ${pictures.toLocaleString("en")}`;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "delete"), { once: true });
  });
}

/** The pictures of tiles: those of a visit are asked of the server. */
export async function picturesOf(tiles, view) {
  const found = [];
  const waiting = [...tiles];
  const worker = async () => {
    for (let tile = waiting.shift(); tile; tile = waiting.shift()) {
      if (tile.count === 1) found.push(tile);
      else found.push(...(await load(`/api/visit/${pathOf(tile)}`, filtersOf(view))).faces);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return found.map(({ device, camera, id }) => ({ device, camera, id }));
}

/** Delete pictures. Return those that are deleted, and why others are not. */
export async function deletePictures(names) {
  const deleted = [];
  const reasons = [];
  for (let start = 0; start < names.length; start += PER_REQUEST) {
    const answer = await send("/api/delete", { faces: names.slice(start, start + PER_REQUEST) });
    deleted.push(...answer.deleted);
    reasons.push(...Object.values(answer.failed));
  }
  return { deleted, reasons };
}
