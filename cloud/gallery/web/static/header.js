// The header of each page: the live indicator, notices about what is away, and the way out.

import { AWAY, send, signIn } from "./server.js";
import { byId } from "./page.js";
import { minutes } from "./times.js";
import { notice } from "./notices.js";

let connected = true;
let state = { live: true, broker: true, s3: null, filling: null };
let since = null;
let reason = "";

function show() {
  const why = !connected ? reason : !state.broker ? "the broker is away" : !state.live ? "it is starting" : "";
  const live = byId("live");
  if (!why) {
    since = null;
    live.dataset.state = "live";
    say("Live");
  } else {
    since ??= Date.now();
    live.dataset.state = connected ? "away" : reason === "reconnecting" ? "connecting" : "away";
    say(reason === "reconnecting" && !connected ? "Reconnecting" : `Not live since ${minutes(since)}: ${why}`);
  }
}

function say(words) {
  const place = byId("live-words");
  if (place.textContent !== words) place.textContent = words;
}

export function showConnection(isConnected, why = "") {
  connected = isConnected;
  reason = why;
  const lost = !isConnected && why !== "reconnecting";
  notice("server", lost ? `${AWAY} What you see was loaded before. It continues by itself.` : "");
  show();
}

export function showState(next) {
  state = next;
  const away = "The gallery is not connected to the broker. New faces appear when it is back; none is lost.";
  notice("broker", state.broker ? "" : away);
  notice("s3", state.s3 ? `S3 is away, so pictures cannot be shown: ${state.s3}` : "");
  const { listed = 0, waiting = 0 } = state.filling ?? {};
  const filling = `The index is being filled from S3: ${listed.toLocaleString("en")} faces listed, ${waiting.toLocaleString("en")} not yet described.`;
  notice("filling", state.filling ? filling : "", { kind: "information" });
  show();
}

// Without a step in the history: going back to it would take the focus away.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("main").focus();
});

byId("sign-out")?.addEventListener("click", async () => {
  try {
    await send("/api/sign-out", {});
    location.assign("/sign-in");
  } catch (error) {
    if (error.status === 401) signIn();
    else notice("sign-out", `You are still signed in. ${error.message}`);
  }
});
