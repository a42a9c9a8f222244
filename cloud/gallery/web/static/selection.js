// The selection: by check mark, Shift for a range, Ctrl+A for all that is loaded, Esc for none.

import { byId, plural } from "./page.js";

export class Selection {
  /** `tiles` returns the tiles in order; `elementOf` the element of one, if it is in the page. */
  constructor({ tiles, elementOf, onDelete }) {
    this.tiles = tiles;
    this.elementOf = elementOf;
    this.chosen = new Set();
    this.last = null;
    byId("selection-clear")?.addEventListener("click", () => this.clear());
    byId("selection-delete")?.addEventListener("click", () => onDelete([...this.chosen]));
  }

  get isEmpty() {
    return this.chosen.size === 0;
  }

  /** Choose a tile, or not any more; with `range`, all from the last one on. */
  toggle(tile, range = false) {
    const tiles = this.tiles();
    const isChosen = !this.chosen.has(tile);
    const from = range ? tiles.indexOf(this.last) : -1;
    if (from >= 0) {
      const to = tiles.indexOf(tile);
      for (const one of tiles.slice(Math.min(from, to), Math.max(from, to) + 1)) this.chosen.add(one);
    } else if (isChosen) this.chosen.add(tile);
    else this.chosen.delete(tile);
    this.last = tile;
    this.show();
  }

  all() {
    for (const tile of this.tiles()) this.chosen.add(tile);
    this.show();
  }

  clear() {
    this.chosen.clear();
    this.show();
  }

  /** Forget the tiles that are not shown any more. */
  prune() {
    if (this.isEmpty) return;
    const shown = new Set(this.tiles());
    for (const tile of this.chosen) if (!shown.has(tile)) this.chosen.delete(tile);
    this.show();
  }

  show() {
    const bar = byId("selection");
    if (!bar) return;
    bar.hidden = this.isEmpty;
    document.body.classList.toggle("selecting", !this.isEmpty);
    const pictures = [...this.chosen].reduce((sum, tile) => sum + tile.count, 0);
    const visits = this.chosen.size;
    byId("selection-words").textContent =
      pictures === visits ? `${plural(visits, "face")} selected` : `${plural(visits, "visit")} selected: ${plural(pictures, "picture")}`;
    for (const tile of this.tiles()) this.mark(this.elementOf(tile), tile);
  }

  mark(element, tile) {
    if (!element) return;
    const isChosen = this.chosen.has(tile);
    element.classList.toggle("chosen", isChosen);
    const check = element.querySelector(".check input");
    if (check) check.checked = isChosen;
  }
}
