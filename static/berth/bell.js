/* The bell of the top bar: asks now and then, and when the page is told of news (the event berth:news). */
(function () {
  "use strict";

  const hears = document.querySelector('meta[name="berth-live"]') && window.EventSource;
  const EVERY_MS = hears ? 300_000 : 60_000;
  const SHOWN_MS = 12_000;
  let asking = false;

  async function look() {
    const bell = document.getElementById("bell");
    if (!bell || asking || document.hidden) return; // nobody looks: nobody asks
    asking = true;
    try {
      const answer = await fetch(bell.dataset.bell, { credentials: "same-origin", redirect: "error" });
      if (!answer.ok) return;
      const text = await answer.text();
      const fresh = new DOMParser().parseFromString(text, "text/html").getElementById("bell");
      if (fresh) show(bell, fresh);
    } catch {
      // no answer, or logged out meanwhile: the bell stays as it is
    } finally {
      asking = false;
    }
  }

  function show(bell, fresh) {
    const isNews = Number(fresh.dataset.last) > Number(bell.dataset.last);
    const hadFocus = document.activeElement === bell;
    bell.replaceWith(document.adoptNode(fresh));
    if (hadFocus) fresh.focus({ preventScroll: true });
    if (isNews) tell(fresh.dataset.title, fresh.dataset.path || fresh.href);
  }

  function tell(title, path) {
    const region = document.getElementById("announcer");
    if (region) region.textContent = title;
    document.querySelector(".news-toast")?.remove();
    const toast = document.createElement("div");
    toast.className = "news-toast";
    const link = document.createElement("a");
    link.href = path;
    link.textContent = title;
    const close = document.createElement("button");
    close.type = "button";
    close.className = "btn-close";
    close.setAttribute("aria-label", "Close this notice");
    close.addEventListener("click", () => toast.remove());
    toast.append(link, close);
    document.body.append(toast);
    const leave = () => (toast.matches(":hover, :focus-within") ? window.setTimeout(leave, SHOWN_MS) : toast.remove());
    window.setTimeout(leave, SHOWN_MS);
  }

  document.addEventListener("berth:news", look);
  document.addEventListener("visibilitychange", look);
  window.setInterval(look, EVERY_MS);
})();
