// On a narrow screen the monitor's menu is scrolled by itself: it begins where one is.
(function () {
  "use strict";

  const here = document.querySelector(".monitor-nav [aria-current]");
  if (here) here.scrollIntoView({ behavior: "instant", inline: "center", block: "nearest" });
})();
