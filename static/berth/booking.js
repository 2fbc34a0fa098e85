/* The booking page: sliders beside the numbers, the search, and buttons that fill the form in instead of sending it. */
(function () {
  "use strict";

  const form = document.getElementById("booking");
  if (!form) return;

  function set(name, value) {
    const radio = form.querySelector(`input[type=radio][name="${name}"][value="${CSS.escape(value)}"]`);
    const field = radio || form.querySelector(`[name="${name}"]:not([type=radio])`);
    if (!field) return null;
    if (radio) radio.checked = true;
    else field.value = value;
    return field;
  }

  // ---- an offer or an hour of the week: "start=2026-05-04T10:00&end=" ------------------------------------------
  document.addEventListener("click", (event) => {
    const button = event.target instanceof Element ? event.target.closest("button[data-fill]") : null;
    if (!button || button.form !== form) return;
    event.preventDefault();
    let last = null;
    for (const [name, value] of new URLSearchParams(button.value)) last = set(name, value) || last;
    if (last) last.dispatchEvent(new Event("change", { bubbles: true }));
    if (button.hasAttribute("data-cell")) mark(button);
  });

  // ---- the week: one stop for the tabulator, arrows within -----------------------------------------------------
  const cells = () => Array.from(form.querySelectorAll("[data-cell]"));

  function mark(cell) {
    for (const other of cells()) other.removeAttribute("aria-pressed");
    if (cell) cell.setAttribute("aria-pressed", "true");
  }

  function oneStop(stop) {
    const all = cells();
    const chosen = stop || all.find((cell) => cell.matches("[aria-pressed]")) || all[0];
    for (const cell of all) cell.tabIndex = cell === chosen ? 0 : -1;
  }

  function markStart() {
    const start = form.elements.start.value;
    const hour = start.slice(0, 13);
    mark(start ? cells().find((cell) => cell.value.slice(6, 19) === hour) : null);
    oneStop();
  }

  form.addEventListener("keydown", (event) => {
    const cell = event.target.closest("[data-cell]");
    const wide = window.matchMedia("(min-width: 576px)").matches;
    const steps = wide
      ? { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -24, ArrowDown: 24 }
      : { ArrowUp: -1, ArrowDown: 1, ArrowLeft: -24, ArrowRight: 24 };
    if (cell && steps[event.key]) {
      const places = Array.from(form.querySelectorAll(".week-cell"));
      let at = places.indexOf(cell) + steps[event.key];
      while (places[at] && !places[at].matches("[data-cell]")) at += steps[event.key];
      if (places[at]) {
        event.preventDefault();
        oneStop(places[at]);
        places[at].focus();
      }
    }
    // In the search Enter would book.
    if (event.key === "Enter" && event.target.id === "service-search") event.preventDefault();
  });

  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target.id === "week") markStart();
  });
  form.elements.start.addEventListener("change", markStart);

  // ---- services: by name and by what they do -------------------------------------------------------------------
  const search = document.getElementById("service-search");
  const nothing = document.getElementById("no-service");

  search.addEventListener("input", (event) => {
    event.stopPropagation(); // nothing of the booking has changed
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const card of document.querySelectorAll("#services .choice")) {
      const text = card.textContent.toLowerCase();
      card.hidden = !words.every((word) => text.includes(word));
      if (!card.hidden) found += 1;
    }
    nothing.hidden = found > 0;
  });
  for (const kind of ["change", "keyup"]) search.addEventListener(kind, (event) => event.stopPropagation());

  // ---- sliders -------------------------------------------------------------------------------------------------
  function slider(number, most, say) {
    const range = document.createElement("input");
    const output = document.createElement("output");
    range.type = "range";
    range.className = "form-range";
    range.min = number.min;
    range.max = String(most);
    range.step = number.step;
    range.setAttribute("aria-label", number.labels[0].textContent.trim());
    output.htmlFor = number.id;
    const show = () => {
      range.value = number.value || number.min;
      output.value = number.value ? say(Number(number.value)) : "";
      range.setAttribute("aria-valuetext", output.value);
    };
    range.addEventListener("input", (event) => {
      event.stopPropagation();
      number.value = range.value;
      show();
    });
    range.addEventListener("change", (event) => {
      event.stopPropagation();
      number.dispatchEvent(new Event("change", { bubbles: true }));
    });
    number.addEventListener("input", show);
    number.after(range, output);
    show();
    return show;
  }

  const own = form.querySelector(".own-size");
  const cores = form.elements.cores;
  const ram = form.elements.ram_mib;
  const shows = [
    slider(cores, cores.dataset.most, (value) => `${value} core${value === 1 ? "" : "s"}`),
    slider(ram, ram.dataset.most, (value) => (value < 1024 ? `${value} MiB` : `${Math.round(value / 102.4) / 10} GiB`)),
  ];

  // One's own size begins as the one that was chosen before.
  let before = form.querySelector("input[name=size]:checked");
  form.addEventListener(
    "change",
    (event) => {
      if (event.target.name !== "size") return;
      if (event.target.value === "custom" && !cores.value && !ram.value) {
        const from = before && before.dataset.cores ? before.dataset : own.dataset;
        cores.value = from.cores;
        ram.value = from.ramMib;
        for (const show of shows) show();
      }
      before = event.target;
    },
    true,
  );
  markStart();
})();
