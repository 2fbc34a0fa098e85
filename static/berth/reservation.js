/* A reservation's page: the cards of its ports are fetched anew when they have changed, and a log follows its end. */
(function () {
  "use strict";

  // ---- the ports -----------------------------------------------------------------------------------------------
  const access = () => document.getElementById("access");

  // Nobody loses what they are writing.
  const beingWritten = (part) =>
    Array.from(part.querySelectorAll("textarea")).some(
      (area) => "unsaved" in area.dataset || area.value !== area.defaultValue || area === document.activeElement,
    );

  function lookAtPorts() {
    const part = access();
    if (!part || !window.htmx) return;
    const shown = part.querySelector("[data-shown]");
    if (shown && shown.dataset.shown === part.dataset.version) return;
    if (!beingWritten(part)) window.htmx.trigger(part, "access-changed");
  }

  // A page that was open while it started has neither charts nor log yet. A log that is read when it ends stays.
  function lookAtParts() {
    const parts = document.getElementById("parts");
    const state = document.getElementById("reservation-state");
    if (!parts || !state) return;
    const there = parts.dataset.parts.split(" ");
    if (state.dataset.parts.split(" ").some((name) => !there.includes(name))) window.htmx.trigger(parts, "parts-changed");
  }

  document.addEventListener("htmx:afterSettle", (event) => {
    if (!event.detail.target || event.detail.target.id !== "reservation-state") return;
    lookAtPorts();
    lookAtParts();
  });

  // ---- the log -------------------------------------------------------------------------------------------------
  const MOST_LINES = 5000;
  let wasAtEnd = true;

  const logOf = (node) => (node instanceof Element ? node.closest(".log") : null);
  const atEnd = (log) => log.scrollHeight - log.scrollTop - log.clientHeight < 40;

  document.addEventListener("htmx:beforeSwap", (event) => {
    const log = logOf(event.detail.target);
    if (log) wasAtEnd = atEnd(log);
  });

  document.addEventListener("htmx:afterSettle", () => {
    const log = document.querySelector(".log");
    if (!log) return;
    if (!log.dataset.seen || wasAtEnd) log.scrollTop = log.scrollHeight;
    log.dataset.seen = "yes";
    const lines = log.querySelectorAll(".log-line");
    for (let index = 0; index < lines.length - MOST_LINES; index += 1) lines[index].remove();
  });

  // A download is a plain submit: htmx would put the file into the page, and berth.js would disable its button.
  document.addEventListener(
    "click",
    (event) => {
      const button = event.target instanceof Element ? event.target.closest("[data-download]") : null;
      if (!button || !button.form) return;
      event.preventDefault();
      event.stopPropagation();
      const address = new URL(button.formAction);
      for (const [name, value] of new FormData(button.form)) address.searchParams.set(name, value);
      window.location.assign(address);
    },
    true,
  );

  const log = document.querySelector(".log");
  if (log) log.scrollTop = log.scrollHeight;
})();
