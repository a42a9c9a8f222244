// Deletes what the user has chosen, and removes from the page what was deleted here or elsewhere.

import { filtersOf } from "./address.js";
import { announce } from "./announce.js";
import { ask, deletePictures, picturesOf } from "./deletion.js";
import { notice } from "./notices.js";
import { plural } from "./page.js";
import { Failure, load, pathOf } from "./server.js";

const FINAL = "This cannot be undone.";

export class Removing {
  /** `present` shows the feed again; `view` returns the present view. */
  constructor({ feed, grid, viewer, view, present, onRemoved }) {
    Object.assign(this, { feed, grid, viewer, view, present, onRemoved });
  }

  /** Remove faces that are deleted. */
  removed(names) {
    if (names.length === 0) return;
    const left = this.feed.remove(names);
    this.present();
    this.viewer.leave(names);
    for (const { tile, rest } of left) void this.describe(tile, rest);
    this.onRemoved();
  }

  /** Describe a tile of which some pictures are deleted. */
  async describe(tile, id) {
    try {
      const { faces } = await load(`/api/visit/${pathOf({ ...tile, id })}`, filtersOf(this.view()));
      this.feed.describe(tile, faces);
      this.grid.update(tile);
      this.present();
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
    }
  }

  /** Ask, and delete tiles. Return whether they are deleted. */
  async deleteTiles(tiles) {
    try {
      const names = await picturesOf(tiles, this.view());
      const visits = tiles.some((tile) => tile.count > 1) ? ` They are of ${plural(tiles.length, "visit")}.` : "";
      if (!(await ask(names.length, `They are deleted from S3.${visits} ${FINAL}`))) return false;
      await this.delete(names);
      return true;
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      notice("delete", `Not deleted. ${error.message}`, { kind: "error" });
      return false;
    }
  }

  /** Ask, and delete the face in the viewer. */
  async deleteFace({ device, camera, id }) {
    if (!(await ask(1, `It is deleted from S3. ${FINAL}`))) return;
    try {
      await this.delete([{ device, camera, id }]);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      this.viewer.say(`Not deleted. ${error.message}`);
    }
  }

  async delete(names) {
    const { deleted, reasons } = await deletePictures(names);
    this.removed(deleted);
    announce(`${plural(deleted.length, "picture")} deleted`);
    const words = reasons.length ? `${plural(reasons.length, "picture")} not deleted: ${reasons[0]}` : "";
    notice("delete", words, { kind: "error" });
    if (words && this.viewer.isOpen) this.viewer.say(words);
  }
}
