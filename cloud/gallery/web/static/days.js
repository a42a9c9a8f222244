// The strip of days: each day that has faces, with their number. The newest one is on the left.

import { byId, make, plural } from "./page.js";
import { dateOf, isDay } from "./times.js";

const part = (options) => new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", ...options });
const WEEKDAY = part({ weekday: "short" });
const NUMBER = part({ day: "numeric" });
const MONTH = part({ month: "short" });
const FULL = part({ weekday: "long", day: "numeric", month: "long", year: "numeric" });
const SHORT_NUMBER = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export class Days {
  constructor(onChoose) {
    this.strip = byId("days");
    this.counts = new Map();
    this.chosen = undefined;
    this.strip.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) onChoose(button.dataset.day === this.chosen ? "" : button.dataset.day);
    });
    this.strip.addEventListener("keydown", (event) => this.onKey(event));
  }

  show(days, chosen) {
    this.counts = new Map(days.map(({ day, count }) => [day, count]));
    this.chosen = chosen;
    this.render();
  }

  choose(day) {
    if (this.chosen === day) return;
    this.chosen = day;
    this.render();
  }

  /** Count a new face. */
  add(day) {
    const isNew = !this.counts.has(day);
    this.counts.set(day, (this.counts.get(day) ?? 0) + 1);
    if (isNew) this.render();
    else this.describe(this.buttonOf(day), day);
  }

  render() {
    const had = document.activeElement?.closest?.("#days button")?.dataset.day;
    const days = [...this.counts.keys()].sort().reverse();
    if (isDay(this.chosen) && !this.counts.has(this.chosen)) days.push(this.chosen);
    this.strip.hidden = days.length === 0;
    this.strip.replaceChildren(this.button(""), ...days.map((day) => this.button(day)));
    this.pressed().tabIndex = 0;
    if (had !== undefined) this.buttonOf(had)?.focus();
    this.reveal();
  }

  buttonOf(day) {
    return this.strip.querySelector(`button[data-day="${CSS.escape(day)}"]`);
  }

  /** The chosen day; that of all days if the day in the address is none. */
  pressed() {
    return this.strip.querySelector("[aria-pressed=true]") ?? this.strip.firstElementChild;
  }

  button(day) {
    const button = make("button", "", day ? "one-day" : "one-day all-days");
    button.type = "button";
    button.dataset.day = day;
    button.tabIndex = -1;
    button.setAttribute("aria-pressed", (this.chosen ?? "") === day);
    if (day) {
      const date = dateOf(day);
      button.append(make("span", WEEKDAY.format(date)), make("strong", NUMBER.format(date)));
      button.append(make("span", MONTH.format(date)), make("span", "", "count"));
      this.describe(button, day);
    } else button.append(make("strong", "All days"));
    return button;
  }

  describe(button, day) {
    const count = this.counts.get(day) ?? 0;
    const date = dateOf(day);
    button.lastElementChild.textContent = SHORT_NUMBER.format(count);
    const seen = `${WEEKDAY.format(date)} ${NUMBER.format(date)} ${MONTH.format(date)} ${SHORT_NUMBER.format(count)}`;
    button.setAttribute("aria-label", `${seen}: ${FULL.format(date)}, ${plural(count, "face")}`);
  }

  /** Bring the chosen day into view, without moving the page. */
  reveal() {
    const button = this.pressed();
    const { offsetLeft: left, offsetWidth: width } = button;
    if (left < this.strip.scrollLeft || left + width > this.strip.scrollLeft + this.strip.clientWidth) {
      this.strip.scrollLeft = left - this.strip.clientWidth / 2 + width / 2;
    }
  }

  onKey(event) {
    const buttons = [...this.strip.children];
    const at = buttons.indexOf(document.activeElement);
    const steps = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: buttons.length - 1 };
    const to = buttons[steps[event.key]];
    if (!to) return;
    event.preventDefault();
    for (const button of buttons) button.tabIndex = button === to ? 0 : -1;
    to.focus();
  }
}
