// The faces on the page: tiles in order, newest first, loaded page by page, with new ones added as they arrive.

import { filtersOf } from "./address.js";
import { load } from "./server.js";
import { MAX_GAP_MS, dayOf, msOfId } from "./times.js";
import { matches } from "./matching.js";

const MAX_PENDING = 500;
const STACK_DEPTH = 300; // tiles in which a new face may stack

export class Feed {
  constructor() {
    this.tiles = [];
    this.pending = []; // new tiles that wait until the user looks at the newest ones
    this.isStale = false; // whether more is new than what waits
    this.seen = new Set();
    this.known = new Map();
    this.show({});
  }

  /** Begin with a view. Nothing that is shown is lost until its first page is here. */
  show(view) {
    this.abort?.abort();
    this.view = view;
    this.next = null;
    this.abort = null;
  }

  /** Load the first page, and return the id of the last change that it includes. */
  async first() {
    const page = await this.page(null);
    this.known = new Map(this.tiles.map((tile) => [tile.id, tile]));
    this.tiles = [];
    this.pending = [];
    this.isStale = false;
    this.seen = new Set();
    this.append(page);
    while (this.tiles.length === 0 && this.next) this.append(await this.page(this.next));
    this.known = new Map();
    return page.changes;
  }

  /** Load the next page. */
  async more() {
    if (this.abort || !this.next) return false;
    this.append(await this.page(this.next));
    return true;
  }

  async page(before) {
    this.abort?.abort();
    const abort = new AbortController();
    this.abort = abort;
    const query = filtersOf(this.view);
    if (this.view.single) query.single = "1";
    if (before) query.before = before;
    try {
      return await load("/api/faces", query, abort.signal);
    } finally {
      if (this.abort === abort) this.abort = null;
    }
  }

  append(page) {
    for (const one of page.tiles) {
      if (this.seen.has(one.id)) continue;
      this.tiles.push(Object.assign(this.known.get(one.id) ?? {}, tileOf(one))); // its element stays
      this.seen.add(one.id).add(one.best.id);
    }
    this.next = page.next;
  }

  /** Add a new face. Return the tile in which it was stacked, true for a new tile, false if it is not shown. */
  add(face, atTop) {
    const one = tileOf({ ...face, count: 1, best: { id: face.id, confidence: face.confidence, quality: face.quality }, first: face.time });
    if (this.seen.has(face.id) || !matches(face, one.ms, this.view)) return false;
    const visit = this.view.single ? null : this.visitOf(one);
    if (!visit && this.isBelow(one)) return false;
    this.seen.add(face.id);
    if (visit) {
      stack(visit, one);
      return visit;
    }
    if (atTop) this.insert(one);
    else if (this.pending.length < MAX_PENDING) this.pending.push(one);
    else this.isStale = true;
    return true;
  }

  /** Show the new faces that wait. */
  takePending() {
    for (const one of this.pending) this.insert(one);
    this.pending = [];
  }

  get pendingCount() {
    return this.pending.reduce((sum, tile) => sum + tile.count, 0);
  }

  /** Remove faces. Return the tiles of which something may be left. */
  remove(names) {
    const gone = new Map(names.map((name) => [`${name.device}/${name.camera}/${name.id}`, name]));
    const left = [];
    const keep = (tile) => {
      const inside = names.filter((name) => isWithin(tile, name));
      if (inside.length === 0) return true;
      const named = [tile.id, tile.best.id].some((id) => gone.has(`${tile.device}/${tile.camera}/${id}`));
      if (tile.count === 1) return !named;
      const rest = [tile.id, tile.best.id].find((id) => !gone.has(`${tile.device}/${tile.camera}/${id}`));
      if (rest) left.push({ tile, rest });
      return rest !== undefined;
    };
    this.tiles = this.tiles.filter(keep);
    this.pending = this.pending.filter(keep);
    return left;
  }

  /** Describe a tile anew from the pictures that are left of its visit. */
  describe(tile, faces) {
    if (faces.length === 0) {
      this.tiles = this.tiles.filter((one) => one !== tile);
      return;
    }
    const best = faces.reduce((a, b) => (isBetter(b, a) ? b : a));
    const { day, orderMs } = tile; // it stays where it is
    Object.assign(tile, tileOf({ ...faces[0], count: faces.length, best, first: faces.at(-1).time }), { day, orderMs });
  }

  visitOf(one) {
    if (one.track === null) return null;
    const near = (tile) =>
      tile.track === one.track && tile.camera === one.camera && tile.device === one.device &&
      one.ms >= tile.firstMs - MAX_GAP_MS && one.ms <= tile.ms + MAX_GAP_MS;
    return this.pending.find(near) ?? this.tiles.slice(0, STACK_DEPTH).find(near) ?? null;
  }

  /** Whether a face is older than what is loaded. It comes with its page. */
  isBelow(one) {
    const last = this.tiles.at(-1);
    return this.next !== null && last !== undefined && one.orderMs < last.orderMs;
  }

  insert(one) {
    const place = this.tiles.findIndex((tile) => tile.orderMs <= one.orderMs);
    this.tiles.splice(place < 0 ? this.tiles.length : place, 0, one);
  }
}

function tileOf(one) {
  const ms = msOfId(one.id);
  return { ...one, ms, orderMs: ms, day: dayOf(ms), firstMs: Date.parse(one.first) };
}

function stack(tile, one) {
  tile.count += 1;
  tile.firstMs = Math.min(tile.firstMs, one.ms);
  if (one.ms > tile.ms) Object.assign(tile, { ms: one.ms, id: one.id, time: one.time });
  if (isBetter(one, tile.best)) tile.best = one.best;
}

/** By quality, then by confidence: the server applies the same rule. */
function isBetter(one, other) {
  const difference = (one.quality ?? 0) - (other.quality ?? 0);
  return difference > 0 || (difference === 0 && (one.confidence ?? 0) > (other.confidence ?? 0));
}

function isWithin(tile, name) {
  const ms = msOfId(name.id);
  return tile.device === name.device && tile.camera === name.camera && ms >= tile.firstMs && ms <= tile.ms;
}
