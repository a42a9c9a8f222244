// The keys of the grid: arrows move, Enter opens, Space selects, Ctrl+A selects all, Esc selects none.

import { hasOpenDialog, mayDelete } from "./page.js";

export class Keys {
  constructor(grid, selection) {
    this.grid = grid;
    this.selection = selection;
    this.current = null; // the tile that Tab reaches
    grid.place.addEventListener("keydown", (event) => this.onKey(event));
    grid.place.addEventListener("focusin", (event) => {
      const tile = grid.tileOf(event.target);
      if (tile) this.setCurrent(tile);
    });
    document.addEventListener("keydown", (event) => this.onPageKey(event));
  }

  /** Let Tab reach one tile: the present one, or the first one. */
  refresh() {
    if (!this.grid.plan.places.has(this.current)) this.current = null;
    const reachable = this.grid.elements.has(this.current) ? this.current : this.grid.firstInView();
    for (const [tile, element] of this.grid.elements) {
      element.querySelector(".tile-link").tabIndex = tile === reachable ? 0 : -1;
    }
  }

  setCurrent(tile) {
    this.current = tile;
    this.refresh();
  }

  onKey(event) {
    const tile = this.grid.tileOf(event.target);
    if (!tile || event.altKey || event.metaKey || event.ctrlKey) return;
    if (event.key === " " && mayDelete && event.target.matches(".tile-link")) {
      event.preventDefault();
      this.selection.toggle(tile, event.shiftKey);
      return;
    }
    const to = this.neighbour(tile, event.key);
    if (!to) return;
    event.preventDefault();
    if (to === tile) return;
    this.setCurrent(to);
    this.grid.reveal(to).querySelector(".tile-link").focus({ preventScroll: true });
    this.refresh();
  }

  neighbour(tile, key) {
    const { rows, places } = this.grid.plan;
    const tiles = this.grid.tiles;
    const { row, column } = places.get(tile);
    const at = tiles.indexOf(tile);
    const inRow = (index) => rows[index] && rows[index].tiles[Math.min(column, rows[index].tiles.length - 1)];
    switch (key) {
      case "ArrowLeft": return tiles[at - 1] ?? tile;
      case "ArrowRight": return tiles[at + 1] ?? tile;
      case "ArrowUp": return inRow(row - 1) ?? tile;
      case "ArrowDown": return inRow(row + 1) ?? tile;
      case "Home": return tiles[0];
      case "End": return tiles.at(-1);
      default: return null;
    }
  }

  onPageKey(event) {
    if (hasOpenDialog() || !mayDelete) return;
    if (event.key === "Escape") this.selection.clear();
    if (event.key === "a" && (event.ctrlKey || event.metaKey) && !event.target.matches("input, select")) {
      event.preventDefault();
      this.selection.all();
    }
  }
}
