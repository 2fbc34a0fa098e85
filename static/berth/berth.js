/* Everything here is an extra: each page works without it. */
(function () {
  "use strict";

  const root = document.documentElement;
  root.classList.add("js");

  // ---- cookies that the server reads: the reader's zone and theme --------------------------------------------
  const YEAR = 365 * 24 * 3600;

  function setCookie(name, value, maxAge = YEAR) {
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `${name}=${encodeURIComponent(value)}; Path=/; Max-Age=${maxAge}; SameSite=Lax${secure}`;
  }

  function getCookie(name) {
    const found = document.cookie.split("; ").find((part) => part.startsWith(`${name}=`));
    return found ? decodeURIComponent(found.slice(name.length + 1)) : "";
  }

  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "";
  if (zone && zone !== getCookie("berth_zone")) setCookie("berth_zone", zone);

  // ---- light and dark ----------------------------------------------------------------------------------------
  const systemIsDark = window.matchMedia("(prefers-color-scheme: dark)");

  // A page that the server could not ask for the cookie (an error page) or that came from a cache.
  const kept = getCookie("berth_theme");
  if (kept === "light" || kept === "dark") root.dataset.bsTheme = kept;

  function toggleTheme() {
    const now = root.dataset.bsTheme || (systemIsDark.matches ? "dark" : "light");
    const next = now === "dark" ? "light" : "dark";
    if ((next === "dark") === systemIsDark.matches) {
      delete root.dataset.bsTheme; // follow the system again
      setCookie("berth_theme", "", 0);
    } else {
      root.dataset.bsTheme = next;
      setCookie("berth_theme", next);
    }
  }

  // ---- copying -----------------------------------------------------------------------------------------------
  async function copy(button) {
    const text = button.dataset.copy;
    let done = false;
    if (navigator.clipboard && window.isSecureContext) {
      done = await navigator.clipboard.writeText(text).then(() => true, () => false);
    }
    if (!done) done = copyByHand(text); // plain http has no clipboard API
    if (!done) return announce("Copying was not possible.");
    button.classList.add("is-copied");
    announce("Copied.");
    window.setTimeout(() => button.classList.remove("is-copied"), 1500);
  }

  function copyByHand(text) {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "visually-hidden";
    document.body.append(area);
    const before = document.activeElement;
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (before) before.focus({ preventScroll: true });
    return done;
  }

  // ---- what a screen reader hears ----------------------------------------------------------------------------
  function announce(text) {
    const region = document.getElementById("announcer");
    if (region && region.textContent !== text) region.textContent = text;
  }

  // ---- the booking form --------------------------------------------------------------------------------------
  function useTime(button) {
    const field = document.getElementById(button.dataset.field);
    if (!field) return;
    field.value = button.dataset.useTime;
    field.dispatchEvent(new Event("change", { bubbles: true }));
    field.focus();
  }

  function showChosen() {
    // Parts of a form that belong to some answers only: data-when="storage=C3" or "storage=C2,C3".
    for (const part of document.querySelectorAll("[data-when]")) {
      const [name, values] = part.dataset.when.split("=");
      const chosen = document.querySelector(`input[name="${name}"]:checked`);
      part.hidden = !(chosen && values.split(",").includes(chosen.value));
    }
  }

  // ---- events ------------------------------------------------------------------------------------------------
  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target : null;
    if (!target) return;
    const copyButton = target.closest("[data-copy]");
    if (copyButton) copy(copyButton);
    const timeButton = target.closest("[data-use-time]");
    if (timeButton) useTime(timeButton);
    if (target.closest("[data-theme-toggle]")) toggleTheme();
    if (target.closest("[data-print]")) window.print();
    for (const menu of document.querySelectorAll("details[data-menu][open]")) {
      if (!menu.contains(target)) menu.open = false;
    }
  });

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of document.querySelectorAll("details[data-menu][open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });

  document.addEventListener("change", (event) => {
    const target = event.target;
    if (target.matches("input[type=radio]")) showChosen();
    if (target.matches("select[data-submit]")) target.form.requestSubmit();
  });

  document.addEventListener("submit", (event) => {
    if (event.defaultPrevented) return; // htmx sends it, and the form stays on the page to be sent again
    // A second click must not send a form twice. The button stays in the form data: disable it afterwards.
    const buttons = Array.from(event.target.elements).filter((element) => element.type === "submit");
    window.setTimeout(() => buttons.forEach((button) => (button.disabled = true)), 0);
  });

  window.addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    document.querySelectorAll("button[type=submit]:disabled").forEach((button) => (button.disabled = false));
  });

  document.addEventListener("DOMContentLoaded", () => {
    showChosen();
    const news = document.querySelector("[data-announce]");
    if (news) lastNews = news.dataset.announce; // the reader has the page; only what changes is said
  });

  // ---- parts that refresh themselves (htmx) ------------------------------------------------------------------
  const lastAnswer = new Map();
  let openParts = [];
  let lastNews = "";

  function offline(isOffline) {
    const banner = document.getElementById("offline");
    if (banner) banner.hidden = !isOffline;
  }

  // Nobody looks: nobody asks.
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (document.hidden && event.detail.elt.hasAttribute("data-refresh")) event.preventDefault();
  });

  // A button that is being pressed must not move away under the pointer: the click would be lost.
  let pressed = false;
  document.addEventListener("pointerdown", (event) => {
    pressed = event.target instanceof Element && Boolean(event.target.closest("button[type=submit]"));
  });
  for (const over of ["pointerup", "pointercancel"]) document.addEventListener(over, () => (pressed = false));

  document.addEventListener("htmx:beforeSwap", (event) => {
    if (pressed) {
      event.detail.shouldSwap = false; // the form goes out anyway
      return;
    }
    const { xhr, target } = event.detail;
    offline(xhr.status >= 500);
    const asked = event.detail.pathInfo.finalRequestPath || event.detail.pathInfo.requestPath;
    const came = xhr.responseURL ? new URL(xhr.responseURL).pathname : "";
    if (came && came !== new URL(asked, location.href).pathname) {
      event.detail.shouldSwap = false; // logged out meanwhile, or gone: let the whole page say so
      return location.reload();
    }
    if (xhr.status === 404 || xhr.status === 403) return location.reload();
    // The same answer again changes nothing: focus, selection and open parts stay as they are.
    const answer = xhr.responseText;
    if (target.id && lastAnswer.get(target.id) === answer) event.detail.shouldSwap = false;
    if (target.id && (xhr.status < 400 || xhr.status === 422)) lastAnswer.set(target.id, answer);
    openParts = Array.from(target.querySelectorAll("details[id][open]"), (part) => part.id);
  });

  document.addEventListener("htmx:afterSwap", () => {
    for (const id of openParts) {
      const part = document.getElementById(id);
      if (part) part.open = true;
    }
    const news = document.querySelector("[data-announce]");
    if (news && news.dataset.announce !== lastNews) announce((lastNews = news.dataset.announce));
  });

  document.addEventListener("htmx:sendError", () => offline(true));
  document.addEventListener("htmx:timeout", () => offline(true));
})();
