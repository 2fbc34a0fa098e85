/* Charts of the monitor's pages (uPlot). The same figures are in the table below each set of charts. */
(function () {
  "use strict";

  const HEIGHT = 170;
  const EVERY_S = { "1h": 15, "24h": 60, "14d": 600 };
  const box = () => document.querySelector("[data-plots]");

  // ---- what is drawn -------------------------------------------------------------------------------------------
  const short = (value, digits = 2) => String(Number(value.toFixed(value < 10 ? digits : value < 100 ? 1 : 0)));
  const plain = (value) => (value == null ? "–" : short(value));
  const percent = (value) => (value == null ? "–" : `${Math.round(value * 100)} %`);

  function scaled(value, base, units, space = " ") {
    if (value == null) return "–";
    let step = 0;
    while (Math.abs(value) >= base && step < units.length - 1) {
      value /= base;
      step += 1;
    }
    return short(value, 1) + space + units[step];
  }

  const mib = (value) => scaled(value, 1024, ["MiB", "GiB", "TiB"]);
  const rate = (value) => scaled(value, 1000, ["B/s", "kB/s", "MB/s", "GB/s"]);

  const TWOS = Array.from({ length: 32 }, (_, power) => 2 ** power); // MiB, so that GiB come out round
  const line = (name, key, colour, more = {}) => ({ name, key, colour, ...more });
  const CHARTS = {
    node: [
      {
        title: "Cores",
        words: plain,
        lines: [line("used", "cores_used", 1, { fill: true }), line("lent", "cores_lent", 2, { stepped: true })],
        limit: { name: "may be lent", of: "lendsCores" },
      },
      {
        title: "Memory",
        words: mib,
        steps: TWOS,
        lines: [
          line("used", "memory_used_mib", 1, { fill: true }),
          line("lent", "ram_lent_mib", 2, { stepped: true }),
          line("machine", "memory_total_mib", 4, { dash: true }),
        ],
        limit: { name: "may be lent", of: "lendsRam" },
      },
      {
        title: "Load",
        words: plain,
        lines: [line("1 min", "load_1", 1), line("5 min", "load_5", 2), line("15 min", "load_15", 3)],
      },
      {
        title: "Disks, how full",
        words: percent,
        most: 1,
        lines: [line("volumes", "volumes_used", 1), line("images", "images_used", 2)],
      },
      {
        title: "Containers",
        words: plain,
        lines: [
          line("found running", "containers", 1, { stepped: true, fill: true }),
          line("expected", "containers_expected", 2, { stepped: true, dash: true }),
        ],
      },
    ],
    container: [
      {
        title: "Cores",
        words: plain,
        lines: [line("used", "cores_used", 1, { fill: true })],
        limit: { name: "booked", of: "lendsCores" },
      },
      {
        title: "Memory",
        words: mib,
        steps: TWOS,
        lines: [line("used", "memory_mib", 1, { fill: true })],
        limit: { name: "booked", of: "lendsRam" },
      },
      {
        title: "Network",
        words: rate,
        lines: [line("received", "received_per_s", 1), line("sent", "sent_per_s", 2)],
      },
    ],
  };
  const STRIP = { node: ["reachable", "Answered"], container: ["running", "Ran"] };

  // ---- colours, from the style sheet as it is now -------------------------------------------------------------
  function colourOf(name, alpha = "") {
    const probe = document.createElement("i");
    probe.className = `plot-colour plot-${name}${alpha}`;
    box().append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  }

  // ---- one chart -----------------------------------------------------------------------------------------------
  let plots = [];
  let shown = null;

  function element(tag, className, text) {
    const made = document.createElement(tag);
    made.className = className;
    if (text != null) made.textContent = text;
    return made;
  }

  function linesOf(chart, data) {
    const known = chart.lines.filter((one) => data.values[one.key]?.some((value) => value != null));
    const limit = Number(chart.limit ? box().dataset[chart.limit.of] : NaN);
    if (!known.length || !(limit > 0)) return known;
    const level = { ...line(chart.limit.name, "", 3, { dash: true }), values: data.at.map(() => limit) };
    return [...known, level];
  }

  function draw(chart, data, into) {
    const card = element("figure", "card plot");
    const head = element("figcaption", "plot-head");
    head.append(element("h3", "plot-title", chart.title));
    card.append(head);
    into.append(card);
    const lines = linesOf(chart, data);
    if (!lines.length) {
      card.append(element("p", "plot-nothing", "Nothing was read in this time."));
      return;
    }
    const values = lines.map((one) => one.values || data.values[one.key]);
    const key = element("p", "plot-key");
    const figures = lines.map((one) => {
      const item = element("span", "plot-item");
      const figure = element("b", "plot-figure");
      item.append(element("i", `plot-swatch plot-${one.colour}`), `${one.name} `, figure);
      key.append(item);
      return figure;
    });
    head.append(key);
    const tell = (index) => {
      figures.forEach((figure, place) => {
        const line = values[place];
        figure.textContent = chart.words(index == null ? lastOf(line) : line[index]);
      });
    };
    tell(null);
    const holder = element("div", "plot-canvas");
    holder.setAttribute("role", "img");
    holder.setAttribute("aria-label", summary(chart, lines, values));
    card.append(holder);
    const plot = new window.uPlot(options(chart, lines, holder, tell), [data.at, ...values], holder);
    plots.push({ plot, holder });
  }

  function lastOf(line) {
    for (let index = line.length - 1; index >= 0; index -= 1) if (line[index] != null) return line[index];
    return null;
  }

  function summary(chart, lines, values) {
    const parts = lines.map((one, place) => {
      const known = values[place].filter((value) => value != null);
      return `${one.name} ${chart.words(lastOf(values[place]))}, at most ${chart.words(Math.max(...known))}`;
    });
    return `${chart.title}: ${parts.join("; ")}`;
  }

  function options(chart, lines, holder, tell) {
    const zone = box().dataset.zone || "UTC";
    const axis = { stroke: colourOf("word"), grid: { stroke: colourOf("grid"), width: 1 }, ticks: { show: false } };
    const font = `11px ${getComputedStyle(document.body).fontFamily}`;
    const stepped = window.uPlot.paths.stepped({ align: 1 });
    return {
      width: Math.max(holder.clientWidth, 100),
      height: HEIGHT,
      tzDate: (at) => window.uPlot.tzDate(new Date(at * 1000), zone),
      padding: [10, 10, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: "monitor" }, y: false, drag: { x: false, y: false }, points: { size: 6 } },
      hooks: { setCursor: [(plot) => tell(plot.cursor.idx ?? null)] },
      scales: { y: { range: (plot, low, high) => [0, chart.most || (high > 0 ? high * 1.1 : 1)] } },
      axes: [
        { ...axis, font, size: 26, space: 60, values: timeWords(zone) },
        { ...axis, font, size: 58, space: 26, incrs: chart.steps, values: (plot, ticks) => ticks.map((tick) => chart.words(tick)) },
      ],
      series: [
        {},
        ...lines.map((one) => ({
          label: one.name,
          stroke: colourOf(one.colour),
          fill: one.fill ? colourOf(one.colour, "-fill") : undefined,
          width: one.dash ? 1.25 : 1.75,
          dash: one.dash ? [5, 4] : undefined,
          paths: one.stepped ? stepped : undefined,
          points: { show: false },
        })),
      ],
    };
  }

  function timeWords(zone) {
    const clock = new Intl.DateTimeFormat("en-GB", { timeZone: zone, hour: "2-digit", minute: "2-digit" });
    const day = new Intl.DateTimeFormat("en-GB", { timeZone: zone, day: "numeric", month: "short" });
    return (plot, ticks) =>
      ticks.map((tick, place) => {
        const at = new Date(tick * 1000);
        const days = ticks.length > 1 && ticks[1] - ticks[0] >= 43200;
        const newDay = place > 0 && day.format(at) !== day.format(new Date(ticks[place - 1] * 1000));
        return days || newDay ? day.format(at) : clock.format(at);
      });
  }

  // ---- the strip of reachability -------------------------------------------------------------------------------
  const SVG = "http://www.w3.org/2000/svg";

  function strip(data, [key, word], into) {
    const line = data.values[key] || [];
    const card = element("figure", "card plot plot-strip");
    const known = line.filter((value) => value != null);
    const share = known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
    const head = element("figcaption", "plot-head");
    head.append(element("h3", "plot-title", word));
    const stopped = (data.values.stopped || []).some((value) => value > 0); // as it was wished: that is no fault
    const says = share == null ? (stopped ? "stopped" : "no reading") : share === 1 ? "100 %" : `${(Math.floor(share * 10000) / 100).toFixed(2)} %`;
    head.append(element("p", "plot-key", says));
    const drawing = document.createElementNS(SVG, "svg");
    for (const [name, value] of Object.entries({
      class: "strip", viewBox: `0 0 ${Math.max(line.length, 1)} 1`, preserveAspectRatio: "none",
      width: "100%", height: "14", role: "img", "aria-label": `${word}: ${says}`,
    })) drawing.setAttribute(name, value);
    const kind = (value) => (value == null ? "none" : value >= 0.999 ? "up" : value > 0 ? "partly" : "down");
    for (let first = 0; first < line.length; ) {
      let last = first + 1;
      while (last < line.length && kind(line[last]) === kind(line[first])) last += 1;
      const part = document.createElementNS(SVG, "rect");
      part.setAttribute("class", `strip-${kind(line[first])}`);
      for (const [name, value] of [["x", first], ["y", 0], ["width", last - first], ["height", 1]]) part.setAttribute(name, value);
      drawing.append(part);
      first = last;
    }
    card.append(head, drawing);
    into.append(card);
  }

  // ---- all of them ---------------------------------------------------------------------------------------------
  function drawAll() {
    const into = box();
    if (!into || !shown) return;
    plots.forEach(({ plot }) => plot.destroy());
    plots = [];
    into.replaceChildren();
    const kind = into.dataset.plots;
    strip(shown, STRIP[kind], into);
    for (const chart of CHARTS[kind]) draw(chart, shown, into);
  }

  function say(text) {
    plots.forEach(({ plot }) => plot.destroy());
    plots = [];
    shown = null;
    box().replaceChildren(element("p", "card card-pad", text));
  }

  let asked = "";
  let timer = 0;

  async function load() {
    const into = box();
    if (!into) return;
    const address = into.dataset.series;
    asked = address;
    window.clearTimeout(timer);
    const span = new URL(address, location.href).searchParams.get("span");
    timer = window.setTimeout(load, (EVERY_S[span] || 60) * 1000);
    if (document.hidden && shown) return; // nobody looks
    try {
      const answer = await fetch(address, { headers: { Accept: "application/json" } });
      if (!answer.ok) throw new Error(String(answer.status));
      const data = await answer.json();
      if (asked !== address) return; // another span was asked for meanwhile
      shown = data;
      drawAll();
    } catch {
      if (!shown) say("The figures cannot be had at the moment; they are asked for again.");
    }
  }

  // The page refreshes around the charts and leaves them alone; only their address may be another one.
  document.addEventListener("htmx:afterSettle", () => {
    if (box() && box().dataset.series !== asked) load();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) load();
  });
  new MutationObserver(drawAll).observe(document.documentElement, { attributeFilter: ["data-bs-theme"] });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  new ResizeObserver(() => {
    for (const { plot, holder } of plots) {
      if (holder.clientWidth && holder.clientWidth !== plot.width) plot.setSize({ width: holder.clientWidth, height: HEIGHT });
    }
  }).observe(document.body);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", load);
  else load();
})();
