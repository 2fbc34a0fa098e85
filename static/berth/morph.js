/* hx-swap="morph": what is there becomes what came, by ids and data-key, and keeps focus, scroll, selection, what was
   typed and which details are open. What has data-keep keeps its content (charts), and only its attributes change. */
(function () {
  "use strict";

  if (!window.htmx) return;

  const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.id || node.dataset.key || "" : "");
  const alike = (one, other) => one.nodeName === other.nodeName && keyOf(one) === keyOf(other);

  function morph(old, wanted) {
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== wanted.nodeValue) old.nodeValue = wanted.nodeValue;
      return;
    }
    morphAttributes(old, wanted);
    if (!old.hasAttribute("data-keep")) morphChildren(old, wanted);
  }

  function morphAttributes(old, wanted) {
    for (const { name } of Array.from(old.attributes)) {
      if (wanted.hasAttribute(name) || (name === "open" && old.nodeName === "DETAILS")) continue;
      old.removeAttribute(name);
    }
    for (const { name, value } of Array.from(wanted.attributes)) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
  }

  function morphChildren(old, wanted) {
    const left = new Set(old.childNodes);
    const byKey = new Map();
    for (const child of old.childNodes) if (keyOf(child)) byKey.set(keyOf(child), child);
    let here = old.firstChild;
    for (const child of Array.from(wanted.childNodes)) {
      const found = keyOf(child) ? byKey.get(keyOf(child)) : next(here, left, child);
      if (!found || !left.has(found) || !alike(found, child)) {
        old.insertBefore(child, here);
        continue;
      }
      left.delete(found);
      if (found === here) here = here.nextSibling;
      else old.insertBefore(found, here);
      morph(found, child);
    }
    for (const child of left) child.remove();
  }

  function next(here, left, wanted) {
    while (here && !(left.has(here) && alike(here, wanted))) here = here.nextSibling;
    return here;
  }

  window.htmx.defineExtension("morph", {
    isInlineSwap: (style) => style === "morph",
    handleSwap(style, target, fragment) {
      if (style !== "morph") return false;
      const wanted = fragment.firstElementChild || (fragment.nodeType === Node.ELEMENT_NODE ? fragment : null);
      if (!wanted) return [];
      const focused = document.activeElement;
      morph(target, wanted);
      // Who was moved lost the focus by that, and gets it back.
      if (focused && focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
      return [target];
    },
  });
})();
