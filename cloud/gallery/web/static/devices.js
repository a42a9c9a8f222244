// The page of devices: which are online, and what each camera does.

import { Live } from "./live.js";
import { notice } from "./notices.js";
import { byId, make, plural } from "./page.js";
import { Failure, load } from "./server.js";
import { duration, moment, shortDay } from "./times.js";

const WARN_DAYS = 30;
const DAY_MS = 86_400_000;
const MIN_INTERVAL_MS = 1000;

let timer = 0;
let last = 0;

/** Load the devices, at most once a second. */
function refresh() {
  clearTimeout(timer);
  timer = setTimeout(async () => {
    last = Date.now();
    try {
      show((await load("/api/devices")).devices);
      notice("load", "");
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      notice("load", `The devices could not be loaded. ${error.message}`, { kind: "error", action: { words: "Try again", run: refresh } });
    }
  }, Math.max(0, last + MIN_INTERVAL_MS - Date.now()));
}

function show(devices) {
  const online = devices.filter((one) => one.online).length;
  const words = devices.length ? `${online.toLocaleString("en")} of ${plural(devices.length, "device")} online` : "";
  if (byId("devices-words").textContent !== words) byId("devices-words").textContent = words;
  byId("empty").hidden = devices.length > 0;
  const list = byId("devices");
  const present = new Map([...list.children].map((element) => [element.dataset.device, element]));
  devices.forEach((device, index) => {
    const element = present.get(device.device) ?? byId("device-template").content.firstElementChild.cloneNode(true);
    present.delete(device.device);
    fill(element, device);
    if (list.children[index] !== element) list.insertBefore(element, list.children[index] ?? null);
  });
  for (const element of present.values()) element.remove();
}

function fill(element, device) {
  element.dataset.device = device.device;
  element.classList.toggle("offline", !device.online);
  element.querySelector("h2").textContent = device.device;
  const badge = element.querySelector(".badge-state");
  badge.textContent = device.online ? "Online" : "Silent";
  badge.className = `badge-state ${device.online ? "good" : "bad"}`;
  element.querySelector(".device-words").textContent = device.online
    ? `Online since ${moment(Date.parse(device.since))}`
    : `Silent since ${moment(Date.parse(device.silent_since ?? device.since))}: see its power, its network and its certificate.`;
  element.querySelector(".scroll").hidden = device.cameras.length === 0;
  element.querySelector(".scroll").setAttribute("aria-label", `Cameras of ${device.device}`);
  element.querySelector("tbody").replaceChildren(...device.cameras.map((camera) => row(device, camera)));
  showCertificate(element.querySelector(".certificate"), device.certificate_expires);
}

function row(device, camera) {
  const element = make("tr");
  const name = make("th");
  name.scope = "row";
  const link = make("a", camera.camera);
  link.href = `/?${new URLSearchParams({ device: device.device, camera: camera.camera })}`;
  name.append(link);
  element.append(
    name,
    cell("State", state(camera), camera.online ? "good" : "bad"),
    cell("Frames/s", number(camera.frames_per_second), "number"),
    cell("Faces today", number(camera.faces_today), "number"),
    cell("Waiting", number(camera.waiting), camera.waiting > 0 ? "number warn" : "number"),
    cell("Oldest waiting", camera.waiting > 0 && camera.oldest_seconds !== null ? duration(camera.oldest_seconds) : "–"),
    cell("Dropped", number(camera.dropped), camera.dropped > 0 ? "number warn" : "number"),
  );
  return element;
}

function cell(label, words, className = "") {
  const element = make("td", words, className);
  element.dataset.label = label;
  return element;
}

const state = (camera) => `${camera.online ? "Online" : "Offline"} since ${moment(Date.parse(camera.since))}`;
const number = (value) => (value === null || value === undefined ? "–" : value.toLocaleString("en"));

function showCertificate(element, expires) {
  element.hidden = !expires;
  if (!expires) return;
  const left = Math.floor((Date.parse(expires) - Date.now()) / DAY_MS);
  const day = shortDay(Date.parse(expires));
  element.classList.toggle("warn", left < WARN_DAYS);
  element.textContent =
    left < 0 ? `Certificate expired on ${day}: renew it` : `Certificate valid until ${day}${left < WARN_DAYS ? `: only ${plural(left, "day")} left` : ""}`;
}

refresh();
new Live({ devices: refresh, reset: refresh, connected: refresh, face: refresh });
