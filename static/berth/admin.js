/* What unfold's pages call, for Alpine's build that evaluates no strings: it knows no globals, so each is given to it. */
(function () {
  "use strict";

  const root = document.documentElement;
  const systemIsDark = window.matchMedia("(prefers-color-scheme: dark)");

  // ---- light and dark: the same cookie as everywhere else in Berth --------------------------------------------
  function chosen() {
    const found = document.cookie.split("; ").find((part) => part.startsWith("berth_theme="));
    const value = found ? found.slice("berth_theme=".length) : "";
    return value === "light" || value === "dark" ? value : "auto";
  }

  function choose(theme) {
    const secure = location.protocol === "https:" ? "; Secure" : "";
    const age = theme === "auto" ? 0 : 365 * 24 * 3600;
    document.cookie = `berth_theme=${theme}; Path=/; Max-Age=${age}; SameSite=Lax${secure}`;
    show();
  }

  function show() {
    const theme = chosen();
    root.classList.toggle("dark", theme === "dark" || (theme === "auto" && systemIsDark.matches));
  }

  show();
  systemIsDark.addEventListener("change", show);

  function kept(name, value) {
    try {
      if (value !== undefined) localStorage.setItem(name, value);
      return localStorage.getItem(name);
    } catch {
      return null; // a browser that keeps nothing
    }
  }

  document.addEventListener("alpine:init", () => {
    Alpine.data("theme", () => ({
      openModal: false,
      filterOpen: false,
      openAllApplications: false,
      adminTheme: chosen(),
      init() {
        for (const name of ["openModal", "filterOpen", "openAllApplications"]) {
          this.$watch(name, (open) => document.body.classList.toggle("overflow-hidden", open));
        }
      },
      switchTheme(theme) {
        this.adminTheme = theme;
        choose(theme);
      },
    }));

    Alpine.data("frame", () => ({
      activeTab: "",
      sidebarMobileOpen: false,
      sidebarDesktopOpen: kept("sidebarDesktopOpen") !== "0",
      window: { location: { pathname: location.pathname, search: location.search } },
      init() {
        const first = this.$el.dataset.tab;
        this.activeTab = first ? getCurrentTab() || first : "";
        this.$watch("sidebarDesktopOpen", (open) => kept("sidebarDesktopOpen", open ? "1" : "0"));
      },
    }));

    Alpine.data("searchForm", searchForm);
  });
})();
