// Tells screen readers what happened: politely, and at most once in a few seconds.

import { byId, plural } from "./page.js";

const QUIET_MS = 5000;
let next = 0;
let timer = 0;
let faces = 0;

export function announce(words) {
  clearTimeout(timer);
  timer = setTimeout(() => {
    next = Date.now() + QUIET_MS;
    faces = 0;
    byId("announcer").textContent = words;
  }, Math.max(200, next - Date.now()));
}

/** Tell that there is a new face; several at once are told together. */
export function announceFace(camera) {
  faces += 1;
  announce(`${plural(faces, "new face")}, the last one at ${camera}`);
}
