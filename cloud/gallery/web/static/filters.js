// The form of filters: shows what the address says, and tells when the user changes something.

import { countFilters } from "./address.js";
import { byId, make } from "./page.js";

const QUARTERS = 96;
const SHARES = ["confidence", "quality"];

export class FilterForm {
  constructor(onChange) {
    this.form = byId("filters");
    this.fields = this.form.elements;
    this.cameras = [];
    this.view = {};
    this.addClocks();
    this.form.addEventListener("submit", (event) => event.preventDefault());
    for (const name of SHARES) this.fields[name].addEventListener("input", () => this.showShare(name));
    this.form.addEventListener("change", () => onChange(this.read()));
    byId("filters-clear").addEventListener("click", () => onChange(this.cleared()));
    const toggle = byId("filters-toggle");
    toggle.addEventListener("click", () => {
      const open = toggle.getAttribute("aria-expanded") !== "true";
      toggle.setAttribute("aria-expanded", open);
    });
  }

  /** The present view without filters. */
  cleared() {
    return this.view.single ? { single: "1" } : {};
  }

  show(view) {
    this.view = view;
    this.showCameras();
    for (const name of ["device", "camera", "from", "to"]) this.fields[name].value = view[name] ?? "";
    this.fields.single.checked = view.single === "1";
    for (const name of SHARES) {
      this.fields[name].value = Number(view[name]) || 0;
      this.showShare(name);
    }
    const count = countFilters(view);
    byId("filters-count").hidden = count === 0;
    byId("filters-count").textContent = count;
    byId("filters-clear").hidden = count === 0;
  }

  setCameras(cameras) {
    this.cameras = cameras;
    this.show(this.view);
  }

  read() {
    const { device, camera, from, to, confidence, quality, single } = this.fields;
    const view = { device: device.value, camera: camera.value, from: from.value, to: to.value };
    if (device.value !== (this.view.device ?? "") && !this.hasCamera(device.value, camera.value)) view.camera = "";
    if (Number(confidence.value) > 0) view.confidence = Number(confidence.value).toFixed(2);
    if (Number(quality.value) > 0) view.quality = Number(quality.value).toFixed(1);
    if (single.checked) view.single = "1";
    if (this.view.day) view.day = this.view.day;
    return Object.fromEntries(Object.entries(view).filter(([, value]) => value));
  }

  hasCamera(device, camera) {
    return this.cameras.some((one) => one.camera === camera && (!device || one.device === device));
  }

  showShare(name) {
    const value = Number(this.fields[name].value);
    const words = value > 0 ? `${Math.round(value * 100)} %` : "any";
    byId(`${name}-words`).textContent = words;
    this.fields[name].setAttribute("aria-valuetext", words);
  }

  /** Names in the address that no camera has are options, too, so that the form says what is shown. */
  showCameras() {
    const { device, camera } = this.view;
    const devices = new Set(this.cameras.map((one) => one.device));
    const cameras = new Set(this.cameras.filter((one) => !device || one.device === device).map((one) => one.camera));
    if (device) devices.add(device);
    if (camera) cameras.add(camera);
    fill(this.fields.device, devices);
    fill(this.fields.camera, cameras);
  }

  addClocks() {
    for (let quarter = 1; quarter < QUARTERS; quarter += 1) {
      const text = `${String(quarter >> 2).padStart(2, "0")}:${String((quarter % 4) * 15).padStart(2, "0")}`;
      this.fields.from.append(option(text));
      this.fields.to.append(option(text));
    }
  }
}

function fill(select, values) {
  const present = [...select.options].slice(1).map((one) => one.value);
  const wanted = [...values].sort();
  if (present.join("\n") === wanted.join("\n")) return;
  select.replaceChildren(select.options[0], ...wanted.map(option));
}

function option(value) {
  const element = make("option", value);
  element.value = value;
  return element;
}
