/* Hears of changes as they happen and has the parts of the page look anew. Where it cannot, they ask by themselves. */
(function () {
  "use strict";

  const meta = document.querySelector('meta[name="berth-live"]');
  if (!meta || !window.EventSource) return;

  const TONES = { offered: "purple", booked: "blue", starting: "amber", running: "green", ending: "amber", failed: "red" };
  const MOVING = new Set(["starting", "ending"]);
  const SPREAD_MS = 20; // for each page that looks at the same: they do not ask all at once
  const LONGEST_SPREAD_MS = 15000;
  const AT_LEAST_EVERY_MS = 30000; // "ends in 5 minutes" goes on, too
  const PAUSE_MS = 30000;

  let source = null;
  let hears = false;
  const asked = new Map(); // by the id of a part: when it was asked for last
  const waiting = new WeakMap();
  const loaded = Date.now();
  let ours = null; // the part that is being asked for by us, and not by its own clock

  function open() {
    if (source || document.hidden) return;
    source = new EventSource(meta.content);
    source.addEventListener("hello", () => {
      if (!hears) look("[data-live]", 1); // what happened until now was not heard
      hears = true;
    });
    source.addEventListener("reservation", (event) => changed(JSON.parse(event.data)));
    source.addEventListener("news", () => {
      look("[data-live-news]", 1);
      document.dispatchEvent(new Event("berth:news")); // the bell
    });
    source.addEventListener("resync", (event) => look("[data-live]", JSON.parse(event.data).listeners));
    source.addEventListener("error", () => {
      hears = false;
      if (source && source.readyState === EventSource.CLOSED) {
        close();
        window.setTimeout(open, PAUSE_MS);
      }
    });
  }

  function close() {
    if (source) source.close();
    source = null;
    hears = false;
  }

  function changed({ id, state, listeners }) {
    for (const holder of document.querySelectorAll(`[data-live-state="${id}"]`)) paint(holder, state);
    look(`[data-live="${id}"][hx-get], [data-live="all"]`, listeners);
  }

  // The word and its colour at once; the rest comes with the part itself.
  function paint(holder, state) {
    const badge = holder.matches(".state") ? holder : holder.querySelector(".state");
    if (!badge || badge.lastChild.textContent === state) return;
    badge.className = `state tone-${TONES[state] || "grey"}${MOVING.has(state) ? " is-moving" : ""}`;
    badge.lastChild.textContent = state;
  }

  function look(selector, listeners) {
    const spread = Math.min((listeners - 1) * SPREAD_MS, LONGEST_SPREAD_MS);
    for (const part of document.querySelectorAll(selector)) {
      if (waiting.has(part)) continue;
      waiting.set(part, window.setTimeout(() => ask(part), Math.random() * spread));
    }
  }

  function ask(part) {
    waiting.delete(part);
    const address = part.getAttribute("hx-get");
    if (!address || !window.htmx || !part.isConnected || document.hidden) return;
    ours = part;
    window.htmx.ajax("GET", address, { source: part, target: part, swap: part.getAttribute("hx-swap") || "innerHTML" });
  }

  // While changes are heard, a part's own clock asks seldom: hundreds of open pages would ask every second.
  document.addEventListener("htmx:beforeRequest", (event) => {
    const part = event.detail.elt;
    if (!part.hasAttribute("data-live")) return;
    const byUs = ours === part;
    ours = null;
    if (hears && !byUs && !event.detail.requestConfig.triggeringEvent) {
      if (Date.now() - (asked.get(part.id) || loaded) < AT_LEAST_EVERY_MS) {
        event.preventDefault();
        return;
      }
    }
    asked.set(part.id, Date.now());
  });

  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", open);
  document.addEventListener("DOMContentLoaded", open);
  if (document.readyState !== "loading") open();
})();
