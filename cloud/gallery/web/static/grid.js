// The grid: only the tiles near the window are in the page, so that it needs little memory however long it is.

import { arrange, rowAt } from "./arrange.js";
import { byId, make } from "./page.js";
import { dayHeading } from "./times.js";
import { dropTile, makeTile, retryPicture, updateTile } from "./tile.js";

const AROUND = 1.2; // windows above and below that are in the page

export class Grid {
  /** `onMade` is called with each new element and its tile, `onNearEnd` when the end comes near. */
  constructor({ onMade, onRendered, onNearEnd }) {
    this.place = byId("grid");
    this.onMade = onMade;
    this.onRendered = onRendered;
    this.onNearEnd = onNearEnd;
    this.tiles = [];
    this.plan = arrange([], this.place.clientWidth);
    this.elements = new Map();
    this.sections = new Map();
    addEventListener("scroll", () => this.schedule(), { passive: true });
    new ResizeObserver(() => this.place.clientWidth !== this.width && this.show(this.tiles)).observe(this.place);
  }

  /** Whether the newest faces are in view. */
  get isAtTop() {
    return scrollY < 60;
  }

  get top() {
    return this.place.getBoundingClientRect().top + scrollY;
  }

  /** Show tiles. What is in view stays where it is, unless the newest faces are in view. */
  show(tiles, { keep = !this.isAtTop } = {}) {
    const anchor = keep ? this.anchor() : null;
    this.tiles = tiles;
    this.width = this.place.clientWidth;
    this.plan = arrange(tiles, this.width);
    this.place.style.height = `${this.plan.height}px`;
    this.place.style.setProperty("--tile-width", `${this.plan.tileWidth}px`);
    this.place.style.setProperty("--tile-height", `${this.plan.tileHeight}px`);
    const now = anchor && this.plan.places.get(anchor.tile);
    if (now) scrollTo({ top: this.plan.rows[now.row].top + anchor.offset, behavior: "instant" });
    this.render();
  }

  /** The first tile in view, and how far the window is from it. */
  anchor() {
    const row = this.plan.rows[rowAt(this.plan.rows, scrollY - this.top, this.plan.tileHeight)];
    return row ? { tile: row.tiles[0], offset: scrollY - row.top } : null;
  }

  schedule() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      this.render();
    });
  }

  render() {
    const { rows, tileHeight, sections } = this.plan;
    const y = scrollY - this.top;
    const first = rowAt(rows, y - innerHeight * AROUND, tileHeight);
    const wanted = new Set();
    let last = first;
    for (; last < rows.length && rows[last].top < y + innerHeight * (1 + AROUND); last += 1) {
      for (const tile of rows[last].tiles) wanted.add(tile);
    }
    const focused = this.tileOf(document.activeElement);
    if (focused && this.plan.places.has(focused)) wanted.add(focused);
    for (const [tile, element] of this.elements) {
      if (wanted.has(tile)) continue;
      dropTile(element);
      this.elements.delete(tile);
    }
    const days = new Set();
    for (const tile of wanted) days.add(rows[this.plan.places.get(tile).row].section);
    this.renderSections(sections.filter((section) => days.has(section)));
    this.renderTiles(wanted);
    this.onRendered();
    if (last >= rows.length - 2) this.onNearEnd();
  }

  renderSections(wanted) {
    const days = new Set(wanted.map((section) => section.day));
    for (const [day, element] of this.sections) {
      if (days.has(day)) continue;
      element.remove();
      this.sections.delete(day);
    }
    wanted.forEach((section, index) => {
      let element = this.sections.get(section.day);
      if (!element) {
        element = make("section", "", "day");
        element.append(make("h2", dayHeading(section.day)), make("ul"));
        element.firstChild.id = `day-${section.day}`;
        element.setAttribute("aria-labelledby", `day-${section.day}`);
        this.sections.set(section.day, element);
      }
      element.style.transform = `translateY(${section.top}px)`;
      element.style.height = `${section.height}px`;
      if (this.place.children[index] !== element) this.place.insertBefore(element, this.place.children[index] ?? null);
    });
  }

  renderTiles(wanted) {
    const { places, rows, columns, tileWidth, gap } = this.plan;
    const order = (tile) => places.get(tile).row * columns + places.get(tile).column;
    const filled = new Map();
    for (const tile of [...wanted].sort((a, b) => order(a) - order(b))) {
      const { row, column } = places.get(tile);
      const { section, top } = rows[row];
      const list = this.sections.get(section.day).lastChild;
      const index = filled.get(list) ?? 0;
      filled.set(list, index + 1);
      const element = this.elements.get(tile) ?? this.make(tile);
      element.style.transform = `translate(${column * (tileWidth + gap)}px, ${top - section.top}px)`;
      if (list.children[index] !== element) list.insertBefore(element, list.children[index] ?? null);
    }
  }

  make(tile) {
    const element = makeTile(tile);
    this.elements.set(tile, element);
    this.onMade(element, tile);
    return element;
  }

  /** Show what has changed in a tile. */
  update(tile) {
    const element = this.elements.get(tile);
    if (element) updateTile(element, tile);
  }

  updateAll() {
    for (const [tile, element] of this.elements) updateTile(element, tile);
  }

  retryPictures() {
    for (const element of this.elements.values()) retryPicture(element);
  }

  tileOf(node) {
    const element = node?.closest?.(".tile");
    if (!element) return null;
    for (const [tile, one] of this.elements) if (one === element) return tile;
    return null;
  }

  /** The first tile that is in view. */
  firstInView() {
    const { rows, tileHeight } = this.plan;
    return rows[rowAt(rows, scrollY - this.top, tileHeight)]?.tiles[0] ?? null;
  }

  /** Bring a tile into view, and return its element. */
  reveal(tile) {
    const { row } = this.plan.places.get(tile);
    const y = this.plan.rows[row].top + this.top;
    const covered = byId("days").getBoundingClientRect().bottom + 56;
    if (y < scrollY + covered) scrollTo({ top: y - covered, behavior: "instant" });
    else if (y + this.plan.tileHeight > scrollY + innerHeight) {
      scrollTo({ top: y + this.plan.tileHeight - innerHeight + 24, behavior: "instant" });
    }
    this.render();
    return this.elements.get(tile);
  }
}
