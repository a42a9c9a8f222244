// The connection for changes (Server-Sent Events): it connects again by itself, and catches up from the last change.

import { showConnection, showState } from "./header.js";
import { load } from "./server.js";

const SILENT_MS = 25_000; // the gallery sends a beat every 10 seconds
const RECONNECTING_MS = 3000;
const MAX_WAIT_MS = 15_000;
const HIDDEN_MS = 20_000;

export class Live {
  /** Connect. `handlers` has a function per kind of change; `last` is the id of the last change that is shown. */
  constructor(handlers, last = "") {
    this.handlers = handlers;
    this.last = last;
    this.failures = 0;
    document.addEventListener("visibilitychange", () => this.onVisibility());
    addEventListener("online", () => this.connect());
    addEventListener("pagehide", () => this.source?.close());
    addEventListener("pageshow", (event) => event.persisted && this.connect());
    this.connect();
  }

  connect() {
    clearTimeout(this.retry);
    this.source?.close();
    const source = new EventSource(`/api/events?since=${encodeURIComponent(this.last)}`);
    this.source = source;
    this.watch();
    source.addEventListener("open", () => this.onOpen());
    source.addEventListener("error", () => this.onLost());
    source.addEventListener("beat", () => this.watch());
    for (const kind of ["state", "face", "deleted", "devices", "reset"]) {
      source.addEventListener(kind, (event) => this.onChange(kind, event));
    }
  }

  onOpen() {
    clearTimeout(this.patience);
    this.patience = undefined;
    this.failures = 0;
    this.watch();
    showConnection(true);
    this.handlers.connected?.();
  }

  onChange(kind, event) {
    this.watch();
    if (event.lastEventId) this.last = event.lastEventId;
    const data = JSON.parse(event.data);
    if (kind === "state") showState(data);
    this.handlers[kind]?.(data);
  }

  /** The browser would try again by itself, but not after an error of a proxy. So we do it. */
  onLost() {
    clearTimeout(this.silence);
    this.source.close();
    this.failures += 1;
    if (this.patience === undefined) {
      showConnection(false, "reconnecting");
      this.patience = setTimeout(() => showConnection(false, this.reason()), RECONNECTING_MS);
    }
    const wait = Math.min(MAX_WAIT_MS, 500 * 2 ** Math.min(this.failures, 6)) * (0.5 + Math.random() / 2);
    clearTimeout(this.retry);
    this.retry = setTimeout(() => this.connect(), wait);
    if (this.failures % 3 === 2) load("/api/state").catch(() => {}); // leads to sign-in if that has ended
  }

  reason() {
    return navigator.onLine ? "the gallery does not answer" : "this computer is offline";
  }

  watch() {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.onLost(), SILENT_MS);
  }

  /** A browser has few connections per host. A page that nobody sees gives its own back, and catches up later. */
  onVisibility() {
    clearTimeout(this.hidden);
    if (document.visibilityState === "hidden") {
      this.hidden = setTimeout(() => {
        clearTimeout(this.silence);
        clearTimeout(this.retry);
        this.source.close();
      }, HIDDEN_MS);
    } else if (this.source.readyState === EventSource.CLOSED) this.connect();
  }
}
