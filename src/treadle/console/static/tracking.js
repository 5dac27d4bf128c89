// Pages of experiments and runs: which runs are ticked, keys in tables, and what the charts are asked to draw.
"use strict";
(() => {
  const { $, $$, make, json, setting, remember, select, lineKnobs, drawLines, legend, thinned, part, zoomed, scatter, contour, parallel, said } = window.treadleCharts;
  const CHART = ["chart", "key", "x", "log", "smooth", "from", "until", "cx", "cy", "cz", "dim", "sel"];

  // ── ticked runs: in the address, so that they survive paging, ordering and a colleague ─────────────────────────
  const ticked = new Set(setting("sel").split(",").filter(Boolean));
  function showTicks() {
    for (const box of $$("input[data-run]")) {
      box.checked = ticked.has(box.value);
      box.closest("tr").classList.toggle("ticked", box.checked);
    }
    const all = $("[data-all]"), boxes = $$("input[data-run]");
    if (all) { all.checked = boxes.length > 0 && boxes.every((b) => b.checked); all.indeterminate = !all.checked && boxes.some((b) => b.checked); }
    const bar = $("#bulkbar");
    if (!bar) return;
    bar.hidden = !ticked.size;
    $("#ticked").textContent = `${ticked.size} ${ticked.size === 1 ? "run" : "runs"} ticked`;
    // Runs that were ticked on another page go with the form too.
    for (const old of $$("input[data-elsewhere]")) old.remove();
    const here = new Set(boxes.map((b) => b.value));
    for (const id of ticked) if (!here.has(id)) $("#bulk").append(make("input", { type: "hidden", name: "run", value: id, "data-elsewhere": true }));
  }
  function tick(id, on) {
    on ? ticked.add(id) : ticked.delete(id);
    remember({ sel: [...ticked].slice(0, 200).join(",") });
    showTicks();
    if (setting("chart") === "lines") redraw();
  }
  document.addEventListener("change", (event) => {
    if (event.target.matches("input[data-run]")) tick(event.target.value, event.target.checked);
    if (event.target.matches("[data-all]")) {
      for (const box of $$("input[data-run]")) event.target.checked ? ticked.add(box.value) : ticked.delete(box.value);
      tick("", false);
    }
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-untick]")) { ticked.clear(); tick("", false); }
    // Links within the page keep what the charts are set to.
    const link = event.target.closest("a[data-keep]");
    if (link) {
      const to = new URL(link.href), here = new URL(location.href);
      for (const name of CHART) { to.searchParams.delete(name); for (const value of here.searchParams.getAll(name)) to.searchParams.append(name, value); }
      link.href = to;
    }
  });
  document.addEventListener("submit", (event) => {
    const here = new URL(location.href);
    if (event.target.matches("form[data-keep]")) {
      for (const name of CHART) for (const value of here.searchParams.getAll(name)) event.target.append(make("input", { type: "hidden", name, value }));
      for (const input of $$("input", event.target)) if (input.type !== "hidden" && input.name === "col" && input.type !== "checkbox" && !input.value) input.disabled = true;
    }
    if (event.target.matches("form[data-back]")) {
      const back = $("input[name=back]", event.target);
      if (event.target.id === "bulk") here.searchParams.delete("sel");
      if (back) back.value = here.pathname + here.search;
    }
  });

  // ── keys ───────────────────────────────────────────────────────────────────────────────────────────────────────
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input:not([type=checkbox]), textarea, select")) return;
    const row = event.target.closest("table[data-rows] tr");
    if (event.key === "x" && row) {
      const box = $("input[data-run]", row);
      if (box) { event.preventDefault(); tick(box.value, !box.checked); }
    } else if (event.key === "ArrowDown" && !row && !event.target.closest("main a, nav, svg")) {
      const first = $("table[data-rows] tbody td a");
      if (first) { event.preventDefault(); first.focus(); }
    }
  });

  // ── charts of the table of runs ────────────────────────────────────────────────────────────────────────────────
  const section = $("#charts");
  const names = new Map();
  let drawnFor = "", asked = 0;
  const learn = () => { const block = $("#drawn"); if (block) for (const r of JSON.parse(block.textContent)) names.set(r.id, r.name); };
  const onPage = () => ($("#drawn") ? JSON.parse($("#drawn").textContent) : []);
  const dims = () => { const found = JSON.parse($("#names").textContent); return [...found.params.map((k) => `params.${k}`), ...found.metrics.map((k) => `metrics.${k}`)]; };
  const pick = (name, otherwise) => { const wanted = setting(name); return wanted && (dims().includes(wanted) || wanted.includes(".")) ? wanted : otherwise; };
  const firstLine = () => { const told = JSON.parse($("#names").textContent); return told.line || told.metrics[0]; };
  const options = (some) => some.slice(0, 400).map((d) => [d, d]);

  function knobs(kind) {
    const host = $("#knobs"), all = dims(), metrics = all.filter((d) => d.startsWith("metrics.")), params = all.filter((d) => d.startsWith("params."));
    host.replaceChildren();
    const again = () => { knobs(kind); redraw(); };
    if (kind === "lines") {
      const keys = metrics.map((d) => d.slice(8));
      host.append(select("metric", "key", keys.map((k) => [k, k]), setting("key", firstLine() || keys[0]), redraw));
      lineKnobs(host, redraw);
    } else if (kind === "parallel") {
      const chosen = chosenDims(), box = make("details", { class: "menu", id: "m-dims" }, make("summary", { text: `Axes (${chosen.length})` }));
      const drop = make("div", { class: "drop picks one" });
      for (const d of all.slice(0, 200)) {
        const tickbox = make("input", { type: "checkbox", value: d, onchange: () => { remember({ dim: $$("input:checked", drop).map((i) => i.value) }); redraw(); $("summary", box).textContent = `Axes (${$$("input:checked", drop).length})`; } });
        tickbox.checked = chosen.includes(d);
        drop.append(make("label", {}, tickbox, document.createTextNode(` ${d}`)));
      }
      box.append(drop);
      host.append(box);
    } else {
      const [x, y, z] = axesOf(kind, params, metrics);
      host.append(select("across", "cx", options(all), x, redraw), select("up", "cy", options(all), y, redraw));
      host.append(select("colour", "cz", kind === "scatter" ? [["", "none"], ...options(all)] : options(all), z, redraw));
    }
    void again;
  }
  function axesOf(kind, params, metrics) {
    const x = pick("cx", params[0] || metrics[1] || metrics[0]), other = kind === "contour" ? params.find((p) => p !== x) || metrics[0] : metrics[0] || params[1];
    return [x, pick("cy", other), pick("cz", kind === "contour" ? metrics[0] || params[0] : "")];
  }
  function chosenDims() {
    const asked = new URL(location.href).searchParams.getAll("dim"), all = dims();
    if (asked.length) return asked.slice(0, 16);
    const metrics = all.filter((d) => d.startsWith("metrics.") && !/^metrics\.(system|process)\//.test(d));
    return [...all.filter((d) => d.startsWith("params.")).slice(0, 5), ...metrics.slice(0, 2).reverse()];
  }
  async function redraw() {
    if (!section) return;
    const kind = setting("chart"), turn = ++asked;
    for (const button of $$("[data-chart]")) button.setAttribute("aria-pressed", String(button.dataset.chart === kind));
    section.hidden = !["lines", "scatter", "parallel", "contour"].includes(kind);
    if (section.hidden) return;
    learn();
    const all = dims(), note = $("#plot-note"), host = $("#plot");
    if (drawnFor !== kind) { if (host.plot) { host.plot.destroy(); host.plot = null; } host.replaceChildren(); knobs(kind); drawnFor = kind; }
    $("#legend").replaceChildren();
    if (!all.length) { note.textContent = "Runs with metrics or parameters can be drawn; none is on this page."; return; }
    try {
      if (kind === "lines") {
        const key = setting("key") || firstLine();
        const runs = ticked.size ? [...ticked].slice(0, 50) : onPage().slice(0, 10).map((r) => r.id);
        if (!key || !runs.length) { note.textContent = "No run here has a metric."; return; }
        const query = new URLSearchParams([["key", key], ...runs.map((r) => ["run", r]), ...part()]);
        const told = await json(`${section.dataset.history}?${query}`);
        if (turn !== asked) return;
        drawLines(host, told, names, true);
        legend($("#legend"), told, names, section.dataset.runs);
        note.textContent = `${ticked.size ? "The ticked runs" : "The first ten runs of the page; tick others to draw them"}. ${told.lines.some((l) => l.thinned) ? "Of long lines the lowest and highest of each part are drawn; drag over a part to see it finer, double click for the whole." : "Drag to zoom, double click for the whole."}`;
        return;
      }
      const wanted = kind === "parallel" ? chosenDims() : axesOf(kind, all.filter((d) => d.startsWith("params.")), all.filter((d) => d.startsWith("metrics.")));
      const url = new URL(section.dataset.columns, location.href);
      for (const name of CHART) url.searchParams.delete(name);
      for (const d of new Set(wanted.filter(Boolean))) url.searchParams.append("d", d);
      const told = await json(url);
      if (turn !== asked) return;
      const count = { scatter, contour, parallel }[kind](host, told, wanted, section.dataset.runs);
      note.textContent = `${count.toLocaleString("en")} of ${told.runs.length.toLocaleString("en")} runs have what is drawn${told.more ? `; these are the first ${told.runs.length.toLocaleString("en")} of the listing, and more follow` : ""}. Each leads to its run.`;
    } catch (error) {
      note.textContent = `The chart could not be drawn: ${error.message}. Choose something else, or load the page again.`;
    }
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-chart]");
    if (button) { remember({ chart: button.getAttribute("aria-pressed") === "true" ? null : button.dataset.chart }); redraw(); }
  });

  document.addEventListener("treadle:zoom", () => { if (section && !section.hidden) redraw(); });

  // ── charts of one run, and of the runs that are compared ───────────────────────────────────────────────────────
  const lines = $("#lines");
  const waiting = [], single = new Set();
  let busy = 0, grow = () => {};
  function runsOf() {
    if (lines.dataset.run) { names.set(lines.dataset.run, lines.dataset.name); return [lines.dataset.run]; }
    learn();
    return onPage().map((r) => r.id);
  }
  async function drawOne(figure, fresh) {
    const runs = runsOf(), every = figure.classList.contains("large") && figure.dataset.every;
    const get = (more) => json(`${lines.dataset.history}?${new URLSearchParams([["key", figure.dataset.key], ...runs.map((r) => ["run", r]), ...(every ? [["every", "1"]] : []), ...more])}`);
    if (fresh || !figure.whole) { figure.whole = await get([]); figure.fine = null; }
    // Of a line that came thinned out, what is zoomed in on is asked for again, finer.
    const finer = zoomed() && figure.whole.lines.some((l) => l.thinned) ? part() : [];
    if (finer.length && String(finer) !== figure.of) { figure.fine = null; figure.of = String(finer); }
    if (finer.length && !figure.fine) figure.fine = await get(finer);
    const told = finer.length ? figure.fine : figure.whole;
    const once = lines.dataset.run && figure.whole.lines.every((l) => l.value.length < 2);
    figure.hidden = once;
    once ? single.add(figure.dataset.key) : single.delete(figure.dataset.key);
    if ($("#lines-once")) $("#lines-once").textContent = single.size ? `Measured once, and told in the table: ${[...single].sort().join(", ")}.` : "";
    if (!once) drawLines($(".host", figure), told, names, figure.classList.contains("large") || figure.classList.contains("wide"));
    figure.dataset.drawn = "1";
    if (figure.matches(".wide")) legend($("#legend"), told, names, lines.dataset.runs || "");
    const n = told.lines[0] ? told.lines[0].value.length : 0;
    figure.title = `${n.toLocaleString("en")} points drawn${finer.length ? " of the part" : ""}`;
    if (lines.dataset.run && thinned(told)) $("#lines-note").textContent = thinned(told);
    if (lines.dataset.run && figure.whole.lines[0]) {
      const row = $$("[data-metric-row]").find((r) => r.dataset.metricRow === figure.dataset.key), one = figure.whole.lines[0];
      if (row) for (const [part, value] of [["low", one.min], ["high", one.max]]) {
        const cell = $(`[data-${part}]`, row);
        cell.textContent = said(value);
      }
    }
  }
  // Three at a time: a run with a hundred metrics does not ask for a hundred lines at once.
  function pump() {
    while (busy < 3 && waiting.length) {
      const [figure, fresh] = waiting.shift();
      busy++;
      drawOne(figure, fresh).catch((error) => { $(".host", figure).replaceChildren(make("p", { class: "nothing", text: `Not drawn: ${error.message}` })); }).finally(() => { busy--; pump(); });
    }
  }
  const ask = (figure, fresh = false) => { waiting.push([figure, fresh]); pump(); };
  if (lines) {
    const each = () => { for (const f of $$(".small-chart[data-drawn]:not([hidden])")) ask(f); };
    lineKnobs($("#knobs"), each);
    document.addEventListener("treadle:zoom", each);
    const seen = new IntersectionObserver((entries) => { for (const e of entries) if (e.isIntersecting) { seen.unobserve(e.target); if (!e.target.dataset.drawn) ask(e.target); } }, { rootMargin: "200px" });
    const choice = $("[data-which]");
    if (choice) {
      const figure = choice.closest(".small-chart");
      if ([...choice.options].some((o) => o.value === setting("key"))) { choice.value = setting("key"); figure.dataset.key = choice.value; }
      choice.addEventListener("change", () => { remember({ key: choice.value }); figure.dataset.key = choice.value; ask(figure, true); });
    }
    for (const figure of $$(".small-chart")) figure.hasAttribute("data-now") ? ask(figure) : seen.observe(figure);
    // A metric that first comes while its run is looked at gets its chart where the others of its kind are.
    const folded = (id, said) => {
      let box = document.getElementById(id);
      if (!box) {
        box = make("details", { id }, make("summary", { text: said }), make("div", { class: "grid-charts" }));
        $("#lines-once").before(box);
      }
      return $(".grid-charts", box);
    };
    const place = (key) => (/^(watch|profile)\//.test(key) ? folded("inside", "Inside the training") : /^(system|process)\//.test(key) ? folded("machine", "The machine meanwhile") : $(".grid-charts", lines));
    grow = () => {
      const known = new Set($$(".small-chart", lines).map((f) => f.dataset.key));
      for (const { dataset: { metricRow: key } } of $$("[data-metric-row]")) {
        if (known.has(key)) continue;
        const larger = make("button", { type: "button", class: "link", "data-larger": true, title: "larger; every point", text: "larger" });
        const figure = make("figure", { class: "small-chart", "data-key": key }, make("figcaption", {}, document.createTextNode(`${key.slice(0, 60)} `), larger), make("div", { class: "host" }));
        lines.hidden = false;
        place(key).append(figure);
        seen.observe(figure);
      }
    };
    document.addEventListener("click", (event) => {
      const larger = event.target.closest("[data-larger]"), show = event.target.closest("[data-show]");
      if (larger) {
        const figure = larger.closest(".small-chart"), is = figure.classList.toggle("large");
        larger.textContent = is ? "smaller" : "larger";
        if (is) figure.dataset.every = "1"; else delete figure.dataset.every;
        ask(figure, figure.whole && figure.whole.lines.some((l) => l.thinned));
      }
      if (show) {
        const figure = $$(".small-chart").find((f) => f.dataset.key === show.dataset.show);
        if (figure) { event.preventDefault(); const shut = figure.closest("details:not([open])"); if (shut) shut.open = true; figure.scrollIntoView({ block: "center" }); figure.classList.add("shown"); setTimeout(() => figure.classList.remove("shown"), 1200); }
      }
    });
  }

  // ── when something came ────────────────────────────────────────────────────────────────────────────────────────
  document.addEventListener("htmx:after:swap", (event) => {
    const by = event.detail.ctx && event.detail.ctx.sourceElement;
    if (by && by.id === "ended") for (const one of $$("[data-wake]")) one.dispatchEvent(new Event("wake"));
    if (by && by.id !== "poll" && by.id !== "run") return; // the last answer takes the poll away, and then stands for it as what it was swapped into
    showTicks();
    const block = $("#drawn"), sentence = $("#said");
    if (block && sentence && block.dataset.said !== undefined && sentence.textContent !== block.dataset.said) sentence.textContent = block.dataset.said;
    if (section && !section.hidden && setting("chart") === "lines" && onPage().some((r) => r.live)) redraw();
    if (lines && lines.dataset.run) { for (const f of $$(".small-chart[data-drawn]")) ask(f, true); grow(); }
  });
  // What somebody writes in an open form stays when the page around it is brought up to date.
  document.addEventListener("toggle", (event) => { if (event.target.id === "edit") event.target.toggleAttribute("hx-morph-skip", event.target.open); }, true);
  // Which tensor is drawn, and at which step, stands in the address.
  document.addEventListener("change", (event) => {
    const look = event.target.closest("#look");
    if (look) remember({ tensor: $("[name=tensor]", look).value, step: $("[name=step]", look).value });
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-tensor]");
    if (link && !event.ctrlKey && !event.metaKey) remember({ tensor: link.dataset.tensor, step: null });
  });
  let resized = 0;
  const again = () => { if (section && !section.hidden) { drawnFor = ""; redraw(); } for (const f of $$(".small-chart[data-drawn]")) ask(f); };
  addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(again, 150); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  document.addEventListener("treadle:paper", again);
  showTicks();
  redraw();
})();
