// Where each tile stands: sections of days, rows of tiles. Pure numbers, so that nothing moves when pictures load.

const PHONE = 600;
const HEADING = 48;
const CAPTION = 46;
const RATIO = 1.2; // height of a picture to its width

/** Return sections and rows for tiles in order, in a width in pixels. */
export function arrange(tiles, width) {
  const phone = width < PHONE;
  const gap = phone ? 6 : 12;
  const least = phone ? 108 : width < 1100 ? 148 : 164;
  const columns = Math.max(2, Math.floor((width + gap) / (least + gap)));
  const tileWidth = Math.floor((width - gap * (columns - 1)) / columns);
  const tileHeight = Math.round(tileWidth * RATIO) + CAPTION;
  const sections = [];
  const rows = [];
  const places = new Map();
  let top = 0;
  let section = null;
  let row = null;
  for (const tile of tiles) {
    if (section?.day !== tile.day) {
      if (section) top = close(section, top, gap);
      section = { day: tile.day, top, height: 0, count: 0, faces: 0 };
      sections.push(section);
      top += HEADING;
      row = null;
    }
    if (!row || row.tiles.length === columns) {
      if (row) top += tileHeight + gap;
      row = { top, section, tiles: [] };
      rows.push(row);
    }
    places.set(tile, { row: rows.length - 1, column: row.tiles.length });
    row.tiles.push(tile);
    section.count += 1;
    section.faces += tile.count;
    section.height = top + tileHeight - section.top;
  }
  if (section) top = close(section, top, gap);
  return { sections, rows, places, columns, gap, tileWidth, tileHeight, height: top };
}

function close(section, top, gap) {
  return section.top + section.height + gap * 2;
}

/** Index of the first row that ends below a height. */
export function rowAt(rows, y, tileHeight) {
  let low = 0;
  let high = rows.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle].top + tileHeight <= y) low = middle + 1;
    else high = middle;
  }
  return low;
}
