/* The list of reservations: what is ticked stays so when the list is read anew. Without this, the boxes still work. */
(function () {
  "use strict";

  const picked = new Set();
  const boxes = () => Array.from(document.querySelectorAll("input[name=pick]"));

  function show() {
    const all = document.getElementById("pick-all");
    if (!all) return;
    const found = boxes();
    const count = found.filter((box) => box.checked).length;
    all.checked = count > 0 && count === found.length;
    all.indeterminate = count > 0 && count < found.length;
    const text = document.querySelector("[data-picked-text]");
    text.textContent = count ? `${count} chosen` : "Choose all on this page";
    for (const button of document.querySelectorAll("[data-picked-deed]")) button.disabled = !count;
  }

  document.addEventListener("change", (event) => {
    const target = event.target;
    if (target.id === "pick-all") for (const box of boxes()) box.checked = target.checked;
    if (target.id !== "pick-all" && target.name !== "pick") return;
    picked.clear();
    for (const box of boxes()) if (box.checked) picked.add(box.value);
    show();
  });

  document.addEventListener("htmx:afterSwap", () => {
    for (const box of boxes()) box.checked = picked.has(box.value);
    show();
  });

  // A page that came back from the browser's history has its ticks, too.
  window.addEventListener("pageshow", () => {
    for (const box of boxes()) if (box.checked) picked.add(box.value);
    show();
  });
})();
