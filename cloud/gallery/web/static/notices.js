// Notices below the header: one line for each thing that is wrong, with a way out where there is one.

import { byId, make } from "./page.js";

const shown = new Map();

/** Show a notice, or replace the one with the same name. Without words, remove it. */
export function notice(name, words, { kind = "warning", action = null } = {}) {
  if (shown.get(name)?.words === words) return;
  shown.get(name)?.element.remove();
  shown.delete(name);
  if (!words) return;
  const element = make("p", "", `notice ${kind}`);
  element.append(make("span", words));
  if (action) {
    const button = make("button", action.words, "plain");
    button.type = "button";
    button.addEventListener("click", action.run);
    element.append(button);
  }
  byId("notices").append(element);
  shown.set(name, { words, element });
}
