// What was on the screen, and for how long: half of a card visible counts, and the tab must be in front.

import { event, sendEvents } from "/web/api.js";

const FLUSH_EVERY_MS = 4000;
const MOST_WAITING = 500;

export class Impressions {
  constructor() {
    this.seen = new Map(); // card -> {payload, since, dwell_ms, is_sent}
    this.waiting = [];
    this.observer = new IntersectionObserver((entries) => entries.forEach((entry) => this.#moved(entry)), { threshold: [0, 0.5] });
    setInterval(() => this.flush(), FLUSH_EVERY_MS);
    document.addEventListener("visibilitychange", () => {
      for (const card of this.seen.keys()) document.hidden ? this.#left(card) : this.#came(card);
      if (document.hidden) this.flush({ keepalive: true });
    });
    addEventListener("pagehide", () => this.close());
  }

  watch(card, payload) {
    this.seen.set(card, { payload, since: 0, dwell_ms: 0, isVisible: false });
    this.observer.observe(card);
  }

  /** Everything that is on the screen has been looked at until now: say so and forget the cards. */
  close() {
    for (const card of [...this.seen.keys()]) this.#end(card);
    this.flush({ keepalive: true });
  }

  drop(card) {
    this.#end(card);
  }

  async flush(options) {
    const batch = this.waiting.splice(0);
    if (!batch.length) return;
    try {
      await sendEvents(batch, options);
    } catch (error) {
      // The server is away or has too much to do: later, under the same ids. What it refuses it will refuse again.
      const isForLater = !error.status || error.status === 429 || error.status >= 500;
      if (isForLater && this.waiting.length < MOST_WAITING) this.waiting.unshift(...batch);
    }
  }

  #moved(entry) {
    const state = this.seen.get(entry.target);
    if (!state) return;
    state.isVisible = entry.isIntersecting && (entry.intersectionRatio >= 0.5 || entry.intersectionRect.height > innerHeight / 2);
    if (state.isVisible) this.#came(entry.target);
    else {
      this.#left(entry.target);
      if (!entry.isIntersecting && state.dwell_ms > 0) this.#end(entry.target);
    }
  }

  #came(card) {
    const state = this.seen.get(card);
    if (state?.isVisible && !state.since && !document.hidden) state.since = performance.now();
  }

  #left(card) {
    const state = this.seen.get(card);
    if (state?.since) {
      state.dwell_ms += performance.now() - state.since;
      state.since = 0;
    }
  }

  #end(card) {
    const state = this.seen.get(card);
    if (!state) return;
    this.#left(card);
    this.observer.unobserve(card);
    this.seen.delete(card);
    if (state.dwell_ms > 0) this.waiting.push(event({ ...state.payload, dwell_ms: Math.round(state.dwell_ms) }));
  }
}
