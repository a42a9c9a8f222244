// The attributes of a face in words.

import { duration, longTime, msOfId } from "./times.js";
import { plural } from "./page.js";

const KNOWN = new Set([
  "specversion", "id", "type", "source", "time", "confidence", "box", "landmarks", "framesize", "track", "model",
  "latitude", "longitude", "sha256", "clock", "quality",
]);
const CLOCKS = {
  corrected: "The clock of the device was not set. The time was computed later.",
  unknown: "The clock of the device was not set. The picture was taken before this time.",
};

export const percent = (confidence) => `${(confidence * 100).toFixed(1)} %`;

/** Return pairs of a name and words for each attribute. Values come from S3, and are only text. */
export function inWords(face, timeZone) {
  const { attributes: given, box, framesize } = face;
  const size = framesize && ` in a frame of ${framesize[0]} × ${framesize[1]}`;
  const rows = [
    ["Time", `${longTime(msOfId(face.id))} (${timeZone})`],
    ["Clock", given.clock && (CLOCKS[given.clock] ?? given.clock)],
    ["Camera", face.camera],
    ["Device", face.device],
    ["Confidence", face.confidence === null || face.confidence === undefined ? null : `${percent(face.confidence)}: how sure the detector is`],
    ["Quality", face.quality === null || face.quality === undefined ? null : `${percent(face.quality)}: sharp, well exposed, large, frontal, not covered`],
    ["Face", box && `${box[2]} × ${box[3]} pixels${size ?? ""}`],
    ["Track", face.track !== null && face.track !== undefined && `${face.track}: the same number for the same face in successive frames`],
    ["Place", given.latitude && given.longitude && place(Number(given.latitude), Number(given.longitude))],
    ["Model", given.model],
    ["File", `JPEG, ${bytes(face.bytes)}`],
    ["Format", given.type ?? "A picture of another publisher, without the attributes of a face"],
    ["Id", face.id],
    ["SHA-256", given.sha256],
    ...Object.entries(given).filter(([name]) => !KNOWN.has(name)),
  ];
  return rows.filter(([, words]) => words);
}

function place(latitude, longitude) {
  const north = latitude < 0 ? "south" : "north";
  const east = longitude < 0 ? "west" : "east";
  return `${Math.abs(latitude)}° ${north}, ${Math.abs(longitude)}° ${east}`;
}

function bytes(count) {
  return count < 1024 ? plural(count, "byte") : `${(count / 1024).toFixed(1)} KiB`;
}

/** Words for a visit: how many pictures, over how long. */
export function visitInWords(faces) {
  const seconds = (msOfId(faces[0].id) - msOfId(faces.at(-1).id)) / 1000;
  return `This visit: ${plural(faces.length, "picture")} in ${duration(seconds)}`;
}

/** Words for where in the frame a box is. */
export function positionInWords([x, y, width, height], [frameWidth, frameHeight]) {
  const across = ["left", "middle", "right"][third((x + width / 2) / frameWidth)];
  const down = ["top", "middle", "bottom"][third((y + height / 2) / frameHeight)];
  const where = across === down ? "in the middle" : `at the ${down} ${across}`;
  return `Where the face was: ${where} of the frame`;
}

const third = (share) => Math.max(0, Math.min(2, Math.floor(share * 3)));
