// The page of faces: puts its parts together.

import * as address from "./address.js";
import { announceFace } from "./announce.js";
import { Days } from "./days.js";
import { showEmpty, showEnd } from "./empty.js";
import { Feed } from "./feed.js";
import { FilterForm } from "./filters.js";
import { Grid } from "./grid.js";
import { Keys } from "./keys.js";
import { Live } from "./live.js";
import { matches } from "./matching.js";
import { notice } from "./notices.js";
import { byId, calm, plural } from "./page.js";
import { Removing } from "./removing.js";
import { Selection } from "./selection.js";
import { Failure, load, pathOf } from "./server.js";
import { dayOf, msOfId } from "./times.js";
import { Viewer } from "./viewer.js";

const REFRESH_MS = 1500;
const SMOOTH_WINDOWS = 3; // from farther below, the newest faces are shown at once

let view = address.read();
let choices = 0; // how often other faces were chosen
let failure = "";
let isFilling = false;
let live = null;
let isOutdated = false; // what is shown is not what the filters say, because it could not be loaded
let refreshing = 0;
let counting = 0;
const feed = new Feed();
const grid = new Grid({ onMade, onRendered: () => keys?.refresh(), onNearEnd: () => void more() });
const selection = new Selection({
  tiles: () => grid.tiles,
  elementOf: (tile) => grid.elements.get(tile),
  onDelete: async (tiles) => (await removing.deleteTiles(tiles)) && selection.clear(),
});
const keys = new Keys(grid, selection);
const form = new FilterForm((next) => choose(next));
const days = new Days((day) => choose({ ...view, day }));
const viewer = new Viewer({ onMove: showFace, onClose: closeFace, onDelete: (face) => removing.deleteFace(face) });
const removing = new Removing({
  feed, grid, viewer, present, view: () => view,
  onRemoved() {
    clearTimeout(counting);
    counting = setTimeout(() => void refreshDays(), REFRESH_MS);
  },
});

/** Show other faces, and write it into the address. */
function choose(next) {
  view = { ...next };
  address.write(view);
  void reload();
}

/** Load the first page anew. What is shown stays until it is here. */
async function reload() {
  choices += 1;
  form.show(view);
  days.choose(view.day);
  feed.show(view);
  selection.clear();
  await refresh({ toTop: true });
}

/** Load the first page and the days, and show them. */
async function refresh({ toTop = false } = {}) {
  const chosen = choices;
  try {
    const changes = await feed.first();
    if (chosen !== choices) return;
    failure = "";
    isOutdated = false;
    grid.updateAll();
    notice("load", "");
    live ??= new Live(handlers, changes);
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof Failure)) throw error;
    failure = error.message;
    isOutdated = true;
    notice("load", `The faces could not be loaded. ${failure}`, { kind: "error", action: { words: "Try again", run: () => reload() } });
    live ??= new Live(handlers);
  }
  if (toTop && !failure) scrollTo({ top: 0, behavior: "instant" });
  present();
  void refreshDays();
}

async function refreshDays() {
  const filters = address.filtersOf(view);
  try {
    const [{ days: counts }, { cameras }] = await Promise.all([load("/api/days", filters), load("/api/cameras")]);
    days.show(counts, view.day);
    form.setCameras(cameras);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
  }
}

/** Load the next page when the end comes near. */
async function more() {
  if (feed.abort || !feed.next || failure) return;
  try {
    if (await feed.more()) present();
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof Failure)) throw error;
    failure = error.message;
    present();
  }
}

function present() {
  selection.prune();
  grid.show(feed.tiles);
  const count = feed.pendingCount;
  byId("pill").hidden = count === 0 && !feed.isStale;
  byId("pill-words").textContent = feed.isStale || count === 0 ? "New faces" : plural(count, "new face");
  const isEmpty = feed.tiles.length === 0 && !feed.next && !failure;
  showEmpty({ isEmpty, filters: address.countFilters(view), isFilling });
  showEnd({
    isLoading: feed.abort !== null,
    failure: isOutdated ? "" : failure,
    hasMore: feed.next !== null,
    count: feed.tiles.reduce((sum, tile) => sum + tile.count, 0),
    onRetry: retry,
  });
}

function retry() {
  failure = "";
  present();
}

function onMade(element, tile) {
  selection.mark(element, tile);
  element.addEventListener("click", (event) => onClick(event, tile));
}

function onClick(event, tile) {
  const isCheck = event.target.closest(".check") !== null;
  if (event.button !== 0 || (event.ctrlKey && !isCheck) || event.metaKey) return;
  if (!event.target.matches("input")) event.preventDefault(); // the selection sets the check mark itself
  if (isCheck || !selection.isEmpty) {
    selection.toggle(tile, event.shiftKey);
    return;
  }
  showFace({ ...tile, id: tile.best.id });
}

// The viewer

function showFace(face) {
  const isMove = viewer.isOpen;
  view = { ...view, face: pathOf(face) };
  address.write(view, { replace: isMove, state: isMove ? history.state : { opened: true } });
  void viewer.show(face, view);
}

function closeFace() {
  if (!view.face) return;
  view = { ...view, face: undefined };
  if (history.state?.opened) history.back();
  else address.write(view, { replace: true });
}

/** Show what the address says: at the start, and after going back. */
function followAddress() {
  const before = JSON.stringify({ ...view, face: undefined });
  view = address.read();
  if (JSON.stringify({ ...view, face: undefined }) !== before) void reload();
  const [device, camera, id] = view.face?.split("/") ?? [];
  if (id) void viewer.show({ device, camera, id }, view);
  else if (viewer.isOpen) viewer.dialog.close();
}

// New and deleted faces

const handlers = {
  face(face) {
    const isDay = matches(face, msOfId(face.id), view, { anyDay: true });
    if (isDay) days.add(dayOf(msOfId(face.id)));
    if (!form.hasCamera(face.device, face.camera)) void refreshDays();
    const added = feed.add(face, grid.isAtTop);
    if (added === false) return;
    announceFace(face.camera);
    if (added !== true) grid.update(added);
    present();
  },
  deleted({ faces }) {
    removing.removed(faces);
  },
  /** The page cannot catch up by changes alone: the gallery has started again, or many faces were found in S3. */
  reset() {
    clearTimeout(refreshing);
    refreshing = setTimeout(async () => {
      if (grid.isAtTop || feed.tiles.length === 0) await refresh();
      else {
        feed.isStale = true;
        present();
        void refreshDays();
      }
    }, 100);
  },
  state(state) {
    const wasFilling = isFilling;
    isFilling = state.filling !== null;
    if (!state.s3) grid.retryPictures();
    if (wasFilling !== isFilling) present();
  },
  connected() {
    if (isOutdated) void reload();
    else if (failure) retry();
    grid.retryPictures();
  },
};

// The start

byId("pill").addEventListener("click", async () => {
  if (feed.isStale) await refresh({ toTop: true });
  else takePending();
  const isFar = scrollY > SMOOTH_WINDOWS * innerHeight;
  scrollTo({ top: 0, behavior: isFar || calm.matches ? "instant" : "smooth" });
});
addEventListener("scroll", () => grid.isAtTop && feed.pending.length > 0 && takePending(), { passive: true });
byId("empty-clear").addEventListener("click", () => choose(form.cleared()));
address.onBack(followAddress);
void reload();
followAddress();

function takePending() {
  feed.takePending();
  present();
}
