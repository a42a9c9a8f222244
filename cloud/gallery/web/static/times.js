// Times of faces, in words and as days, in the time zone of the gallery.

import { timeZone } from "./page.js";

const format = (options) => new Intl.DateTimeFormat("en-GB", { timeZone, ...options });
const DAY = format({ year: "numeric", month: "2-digit", day: "2-digit" });
const CLOCK = format({ hour: "2-digit", minute: "2-digit", second: "2-digit" });
const MINUTES = format({ hour: "2-digit", minute: "2-digit" });
const LONG = format({ weekday: "long", day: "numeric", month: "long", year: "numeric" });
const SHORT = format({ day: "numeric", month: "short", year: "numeric" });
const UTC_LONG = new Intl.DateTimeFormat("en-GB", {
  timeZone: "UTC", weekday: "long", day: "numeric", month: "long", year: "numeric",
});

export const MAX_GAP_MS = 120_000;

/** The time in the id of a face: milliseconds since 1970. */
export const msOfId = (id) => parseInt(id.slice(0, 8) + id.slice(9, 13), 16);

/** The day of a time, such as 2026-11-22. */
export const dayOf = (ms) => DAY.format(ms).split("/").reverse().join("-");

/** The quarter of an hour of a time, 0 to 95. */
export function quarterOf(ms) {
  const [hours, minutes] = MINUTES.format(ms).split(":");
  return Number(hours) * 4 + Math.floor(Number(minutes) / 15);
}

export const clock = (ms) => CLOCK.format(ms);
export const minutes = (ms) => MINUTES.format(ms);
export const longTime = (ms) => `${LONG.format(ms)}, ${CLOCK.format(ms)}.${String(ms % 1000).padStart(3, "0")}`;
export const shortDay = (ms) => SHORT.format(ms);

/** A time for a person: only the clock today, with the day otherwise. */
export function moment(ms) {
  return dayOf(ms) === dayOf(Date.now()) ? minutes(ms) : `${shortDay(ms)}, ${minutes(ms)}`;
}

/** The heading of a day: Today, Yesterday, or the day in full. */
export function dayHeading(day) {
  const now = Date.now();
  if (day === dayOf(now)) return "Today";
  if (day === dayOf(now - 86_400_000)) return "Yesterday";
  return UTC_LONG.format(dateOf(day));
}

/** A date whose parts in UTC are those of a day. */
export const dateOf = (day) => new Date(`${day}T00:00:00Z`);

/** Whether a text is a day such as 2026-11-22. */
export const isDay = (text) => Boolean(text) && !Number.isNaN(dateOf(text).getTime());

/** A duration in the largest unit that fits. */
export function duration(seconds) {
  for (const [size, one] of [[86_400, "day"], [3600, "hour"], [60, "minute"], [1, "second"]]) {
    const count = Math.floor(seconds / size);
    if (count >= 1) return `${count} ${one}${count === 1 ? "" : "s"}`;
  }
  return "less than a second";
}
