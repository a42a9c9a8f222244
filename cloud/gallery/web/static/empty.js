// What stands below the faces: that more are loading, that this is all, or why there are none and what to do.

import { byId, plural } from "./page.js";

/** Say where the list ends. */
export function showEnd({ isLoading, failure, hasMore, count, onRetry }) {
  const end = byId("end");
  if (failure) {
    end.replaceChildren(`${failure} `, retryButton(onRetry));
    return;
  }
  end.textContent = isLoading || hasMore ? "Loading" : count > 0 ? `That is all: ${plural(count, "picture")}` : "";
}

function retryButton(onRetry) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Try again";
  button.addEventListener("click", onRetry);
  return button;
}

/** Say why there are no faces, and what to do next. */
export function showEmpty({ isEmpty, filters, isFilling }) {
  byId("empty").hidden = !isEmpty;
  if (!isEmpty) return;
  byId("empty-clear").hidden = filters === 0;
  byId("empty-devices").hidden = filters > 0;
  if (filters > 0) {
    say("No faces for these filters", "Choose another day, a longer time of day, or a lower confidence or quality.");
  } else if (isFilling) {
    say("Reading what is in S3", "The faces appear here as they are found.");
  } else {
    say("No faces yet", "A face appears here within a second of its arrival in S3. See whether a device is online and its camera delivers frames.");
  }
}

function say(title, words) {
  byId("empty-title").textContent = title;
  byId("empty-words").textContent = words;
}
