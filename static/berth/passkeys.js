/* What the browser says about passkeys, in sentences. The ceremony itself is allauth's webauthn.js. */
(function () {
  "use strict";

  const SENTENCES = {
    NotAllowedError: "It was cancelled, or it took too long. Try again.",
    SecurityError: "Passkeys belong to a name. Open this page by its name, over https, not by an address of digits.",
    InvalidStateError: "This device or key is registered already.",
    NotSupportedError: "This device or key cannot do that.",
  };
  const NOT_HERE = "This browser has no passkeys here. They need https and a current browser.";

  function say(sentence) {
    const note = document.querySelector("[data-passkey-error]");
    if (!note) return;
    note.querySelector("div").textContent = sentence;
    note.hidden = false;
  }

  document.addEventListener("allauth.error", (event) => {
    event.preventDefault();
    const problem = event.detail.exception;
    say(SENTENCES[problem && problem.name] || "That did not work. Try again in a moment.");
  });

  document.addEventListener("DOMContentLoaded", () => {
    if (window.PublicKeyCredential) return;
    for (const button of document.querySelectorAll("[data-passkey]")) {
      button.disabled = true;
      button.title = NOT_HERE;
    }
  });
})();
