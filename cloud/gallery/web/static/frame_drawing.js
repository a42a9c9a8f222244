// A drawing to scale of the frame, with the box of the face and its landmarks.

import { positionInWords } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";

/** Return an SVG for a box in a frame; null if either is not known. */
export function drawFrame(box, framesize, landmarks) {
  if (!box || !framesize) return null;
  const [width, height] = framesize;
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", class: "frame-drawing" });
  svg.setAttribute("aria-label", positionInWords(box, framesize));
  svg.append(shape("rect", { class: "whole", x: 0, y: 0, width, height }));
  for (const part of [1 / 3, 2 / 3]) {
    svg.append(shape("path", { class: "third", d: `M${width * part} 0V${height}M0 ${height * part}H${width}` }));
  }
  svg.append(shape("rect", { class: "box", x: box[0], y: box[1], width: box[2], height: box[3] }));
  for (const [x, y] of points(landmarks)) {
    svg.append(shape("circle", { class: "landmark", cx: x, cy: y, r: Math.max(width / 160, box[2] / 25) }));
  }
  return svg;
}

function points(landmarks = "") {
  const numbers = landmarks.split(",").map(Number);
  if (numbers.length !== 10 || !numbers.every(Number.isFinite)) return [];
  return [0, 2, 4, 6, 8].map((at) => [numbers[at], numbers[at + 1]]);
}

function shape(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) element.setAttribute(attribute, value);
  return element;
}
