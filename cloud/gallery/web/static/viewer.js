// The viewer: one face with its attributes, where it was in the frame, its visit, and its neighbours in time.

import { filtersOf } from "./address.js";
import { drawFrame } from "./frame_drawing.js";
import { byId, make, timeZone } from "./page.js";
import { Failure, load, pathOf, pictureOf } from "./server.js";
import { clock, msOfId } from "./times.js";
import { inWords, positionInWords, visitInWords } from "./words.js";

export class Viewer {
  /** `onMove` is called with each face that is shown, `onClose` when it closes, `onDelete` with a face to delete. */
  constructor({ onMove, onClose, onDelete }) {
    this.dialog = byId("viewer");
    this.onMove = onMove;
    this.face = null;
    this.visit = [];
    this.dialog.addEventListener("close", () => {
      this.abort?.abort();
      this.face = null;
      byId("viewer-picture").removeAttribute("src");
      onClose();
    });
    this.dialog.addEventListener("keydown", (event) => this.onKey(event));
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
    byId("viewer-close").addEventListener("click", () => this.dialog.close());
    byId("viewer-newer").addEventListener("click", () => this.step("newer"));
    byId("viewer-older").addEventListener("click", () => this.step("older"));
    byId("viewer-copy").addEventListener("click", () => this.copyLink());
    byId("viewer-delete")?.addEventListener("click", () => this.face && onDelete(this.face));
    byId("viewer-picture").addEventListener("error", () => {
      const isExplained = !byId("viewer-trouble").hidden; // the answer about the face may come first
      if (byId("viewer-picture").src && !isExplained) this.trouble("The picture could not be loaded.");
    });
  }

  get isOpen() {
    return this.dialog.open;
  }

  /** Show a face, given its device, camera and id. */
  async show(face, view) {
    this.view = view;
    this.face = face;
    this.newer = this.older = null;
    this.isLoading = true;
    this.wanted = null;
    if (!this.dialog.open) this.dialog.showModal();
    byId("viewer-title").textContent = `${face.camera}, ${clock(msOfId(face.id))}`;
    byId("viewer-said").textContent = "";
    byId("viewer-trouble").hidden = true;
    const picture = byId("viewer-picture");
    picture.hidden = false;
    picture.src = pictureOf(face);
    picture.alt = `Face at ${face.camera}`;
    byId("viewer-download").href = `${pictureOf(face)}?download=1`;
    this.markVisit();
    await this.describe(face);
  }

  async describe(face) {
    this.abort?.abort();
    const { signal } = (this.abort = new AbortController());
    const query = filtersOf(this.view);
    try {
      const described = await load(`/api/face/${pathOf(face)}`, query, signal);
      this.showFacts(described);
      this.showNeighbours(described);
      if (!this.visit.some((one) => one.id === face.id)) {
        this.showVisit((await load(`/api/visit/${pathOf(face)}`, query, signal)).faces);
      }
    } catch (error) {
      if (!(error instanceof Failure)) return;
      this.showVisit([]);
      this.showNeighbours({ newer: null, older: null });
      byId("viewer-attributes").replaceChildren();
      byId("viewer-frame").hidden = true;
      this.trouble(error.status === 404 ? "This face is not there: it was deleted, or the link is wrong." : error.message);
    }
  }

  showFacts(face) {
    const rows = inWords(face, timeZone).flatMap(([name, words]) => [make("dt", name), make("dd", words)]);
    byId("viewer-attributes").replaceChildren(...rows);
    const frame = byId("viewer-frame");
    const drawing = drawFrame(face.box, face.framesize, face.attributes.landmarks);
    frame.querySelector("svg")?.remove();
    frame.hidden = drawing === null;
    if (!drawing) return;
    frame.prepend(drawing);
    byId("viewer-frame-words").textContent = positionInWords(face.box, face.framesize);
  }

  showNeighbours({ newer, older }) {
    this.newer = newer;
    this.older = older;
    for (const [id, face] of [["viewer-newer", newer], ["viewer-older", older]]) {
      const button = byId(id);
      if (!face && document.activeElement === button) byId("viewer-close").focus();
      button.disabled = !face;
      button.title = face ? `${face.camera}, ${clock(msOfId(face.id))}` : "";
    }
    this.isLoading = false;
    if (this.wanted) this.go(this[this.wanted]);
  }

  showVisit(faces) {
    this.visit = faces;
    byId("viewer-visit").hidden = faces.length < 2;
    if (faces.length > 1) byId("viewer-visit-words").textContent = visitInWords(faces);
    byId("viewer-strip").replaceChildren(...faces.map((face) => this.visitItem(face)));
    this.markVisit();
  }

  visitItem(face) {
    const item = make("li");
    const button = make("button");
    button.type = "button";
    button.dataset.id = face.id;
    const picture = make("img");
    picture.loading = "lazy";
    picture.alt = `Face at ${clock(msOfId(face.id))}`;
    picture.src = pictureOf(face);
    button.append(picture);
    button.addEventListener("click", () => this.go(face));
    item.append(button);
    return item;
  }

  markVisit() {
    for (const button of byId("viewer-strip").querySelectorAll("button")) {
      const isShown = button.dataset.id === this.face?.id;
      button.toggleAttribute("aria-current", isShown);
      if (isShown) button.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
  }

  /** Go to a neighbour: at once, or when it is known. */
  step(side) {
    if (this.isLoading) this.wanted = side;
    else this.go(this[side]);
  }

  go(face) {
    if (face) this.onMove(face);
  }

  onKey(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "ArrowLeft") this.step("newer");
    else if (event.key === "ArrowRight") this.step("older");
    else return;
    event.preventDefault();
  }

  /** Go on to a neighbour when the face that is shown was deleted; close if there is none. */
  leave(names) {
    if (!this.face || !names.some((name) => name.id === this.face.id)) {
      if (names.some((name) => this.visit.some((one) => one.id === name.id))) {
        this.showVisit(this.visit.filter((one) => !names.some((name) => name.id === one.id)));
      }
      return;
    }
    const isGone = (face) => !face || names.some((name) => name.id === face.id);
    const rest = this.visit.filter((one) => !isGone(one));
    const to = [this.older, this.newer, rest[0]].find((face) => !isGone(face));
    this.showVisit(rest);
    if (to) this.go(to);
    else this.dialog.close();
  }

  trouble(words) {
    byId("viewer-picture").hidden = true;
    byId("viewer-trouble").textContent = words;
    byId("viewer-trouble").hidden = false;
  }

  say(words) {
    byId("viewer-said").textContent = words;
  }

  async copyLink() {
    try {
      await navigator.clipboard.writeText(location.href);
      this.say("Link copied");
    } catch {
      this.say("Your browser does not allow copying here: copy the address of the page");
    }
  }
}
