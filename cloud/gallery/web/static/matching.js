// Whether a new face belongs to the filters of the page. The server applies the same rule to older ones.

import { dayOf, quarterOf } from "./times.js";

const QUARTERS = 96;

export function matches(face, ms, view, { anyDay = false } = {}) {
  if (view.device && face.device !== view.device) return false;
  if (view.camera && face.camera !== view.camera) return false;
  if (view.confidence && !((face.confidence ?? 0) >= Number(view.confidence) - 1e-9)) return false;
  if (view.quality && !((face.quality ?? 0) >= Number(view.quality) - 1e-9)) return false;
  if (view.day && !anyDay && dayOf(ms) !== view.day) return false;
  return !(view.from || view.to) || includes(quarter(view.from, 0), quarter(view.to, QUARTERS), quarterOf(ms));
}

/** The quarter of a clock such as 18:15. */
function quarter(text, otherwise) {
  if (!text) return otherwise;
  const [hours, minutes] = text.split(":").map(Number);
  return hours * 4 + minutes / 15;
}

function includes(first, last, one) {
  return first < last ? first <= one && one < last : one >= first || one < last;
}
