// What the server cannot do: draw the chart, keep the page up to date only while somebody looks, search from the keyboard.
"use strict";
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  // The links that MLflow's clients print: behind the address of the server, or of one of its projects (which a login comes back to).
  const printed = location.hash.match(/^#\/(?:experiments\/([^/?]+)(?:\/(runs|models)\/([^/?]+))?|models\/([^/?]+)(?:\/versions\/(\d+))?)/);
  const [project = ""] = (new URLSearchParams(location.search).get("next") ?? location.pathname).match(/^\/mlflow\/[^/]+/) ?? [];
  if (!printed && /^\/mlflow\/[^/]+\/?$/.test(location.pathname)) {
    location.replace(`${project}/experiments`);
    return;
  }
  if (printed) {
    const [, experiment, kind, id, model, version] = printed;
    const below = model ? `/models/${model}${version ? `/${version}` : ""}` : id ? `/${kind === "runs" ? "runs" : "logged-models"}/${id}` : `/experiments/${experiment}`;
    location.replace(project + below);
    return;
  }
  const address = new URL(location.href);
  const remember = (changes) => {
    for (const [key, value] of Object.entries(changes)) value === null ? address.searchParams.delete(key) : address.searchParams.set(key, value);
    history.replaceState(null, "", address);
  };

  // ── the chart ──────────────────────────────────────────────────────────────────────────────────────────────────
  const DRAWN = {
    roc_auc: [
      { key: "roc_auc", name: "champion", ink: "--green", soft: "--green-soft" },
      { key: "never_roc_auc", name: "never retrained", ink: "--grey", soft: null, dash: [6, 4], monthly: true },
    ],
    brier: [
      { key: "brier", name: "champion", ink: "--green", soft: "--green-soft" },
      { key: "never_brier", name: "never retrained", ink: "--grey", soft: null, dash: [6, 4], monthly: true },
    ],
    calibration: [
      { key: "mean_predicted", name: "predicted", ink: "--green", soft: null },
      { key: "mean_observed", name: "observed", ink: "--muted", soft: null, dash: [6, 4] },
    ],
  };
  const HOUR = 3600, DAY = 86400;
  const STEPS = [HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 30 * DAY, 90 * DAY, 180 * DAY, 365 * DAY];
  const NOTES = {
    roc_auc: "dots are days, the line is the mean of the last 7 with its 95 % interval; higher is better",
    brier: "dots are days, the line is the mean of the last 7 with its 95 % interval; lower is better",
    calibration: "mean of the last 7 days: what was predicted beside what came; the closer the better",
  };
  let plot = null, drawn = "", told = null, seen = "", zoomed = null;

  const metric = () => (DRAWN[address.searchParams.get("metric")] ? address.searchParams.get("metric") : "roc_auc");
  // Only what there are numbers of: the baseline comes when a replay has been judged.
  const lines = (name) => DRAWN[name].filter((one) => !one.monthly || told.series[one.key]);
  const number = (v) => (v === null || v === undefined ? "—" : Math.abs(v) < 100 ? v.toFixed(3) : Math.round(v).toLocaleString("en"));
  const day = (t) => new Date(t * 1000).toISOString().slice(0, 10);

  function columns(name) {
    const rows = [told.t];
    for (const line of lines(name)) {
      const s = told.series[line.key] || { day: [], line: [], low: [], high: [] };
      const nothing = told.t.map(() => null);
      const get = (k) => (s[k].length ? s[k] : nothing);
      rows.push(name === "calibration" ? nothing : get("day"), get("line"), line.soft ? get("high") : nothing, line.soft ? get("low") : nothing);
    }
    return rows;
  }

  function bounds() {
    const from = Date.parse(address.searchParams.get("from") || "") / 1000, until = Date.parse(address.searchParams.get("until") || "") / 1000;
    return from && until && until > from ? [from, until] : null;
  }

  function draw() {
    const host = $("#chart"), block = $("#series");
    if (!host || !block) { plot = null; seen = ""; return; }
    const fresh = block.textContent;
    const name = metric();
    if (plot && !host.contains(plot.root)) plot = null;
    if (plot && fresh === seen && drawn === name) return;
    if (fresh !== seen) told = JSON.parse(fresh);
    seen = fresh;
    for (const button of document.querySelectorAll("[data-metric]")) button.setAttribute("aria-pressed", String(button.dataset.metric === name));
    const note = $("#chart-note");
    if (note) note.textContent = NOTES[name];
    if (plot && drawn === name && plot.series.length === 1 + 4 * lines(name).length) {
      plot.setData(columns(name), false);
      scale();
      return;
    }
    if (plot) plot.destroy();
    drawn = name;
    make(host, name);
  }

  function scale() {
    const zoom = zoomed || [told.start, told.end];
    plot.setScale("x", { min: zoom[0], max: zoom[1] });
    const whole = $("[data-whole]");
    if (whole) whole.hidden = !zoomed;
  }

  function make(host, name) {
    const ink = colour("--ink"), muted = colour("--muted"), line = colour("--line");
    const series = [{}], bands = [];
    for (const one of lines(name)) {
      const at = series.length, stroke = colour(one.ink);
      series.push({ stroke, width: 0, paths: () => null, points: { show: true, size: 3.5, fill: stroke + "66", stroke: "transparent", width: 0 } });
      series.push({ stroke, width: 2, dash: one.dash, spanGaps: false, points: { show: false } });
      series.push({ stroke: "transparent", width: 0, points: { show: false } }, { stroke: "transparent", width: 0, points: { show: false } });
      if (one.soft) bands.push({ series: [at + 2, at + 3], fill: colour(one.soft) });
    }
    zoomed = bounds();
    const font = "12px " + getComputedStyle(document.body).fontFamily;
    const grid = { stroke: line, width: 1 };
    const options = {
      width: host.clientWidth, height: host.clientHeight, padding: [26, innerWidth < 760 ? 8 : 32, 0, 0], legend: { show: false },
      tzDate: (t) => uPlot.tzDate(new Date(t * 1e3), "UTC"),
      cursor: { y: false, points: { show: false }, drag: { x: true, y: false, setScale: false } },
      scales: { x: { time: true }, y: { range: (u, low, high) => room(low, high) } },
      axes: [
        { stroke: muted, font, grid: { show: false }, ticks: { show: false }, size: 28, incrs: STEPS, space: 64, values: names },
        { stroke: muted, font, grid, ticks: { show: false }, size: 48, values: (u, at) => at.map((v) => v.toFixed(2)) },
      ],
      series, bands,
      hooks: { drawClear: [under], draw: [over], setCursor: [tip], setSelect: [zoom] },
    };
    plot = new uPlot(options, columns(name), host);
    plot.root.setAttribute("aria-hidden", "true");
    scale();
  }

  // A little air, and never so narrow that noise looks like news; below it there is room for the traffic.
  function room(low, high) {
    if (low === null || high === null || low === undefined) return [0, 1];
    const least = 0.06, middle = (low + high) / 2, half = Math.max((high - low) * 0.56, least / 2);
    return [Math.max(0, middle - half * 1.36), middle + half];
  }

  function names(u, at, axis, space, step) {
    return at.map((t, i) => {
      const d = new Date(t * 1000), month = d.toLocaleString("en", { month: "short", timeZone: "UTC" });
      if (step >= 2419200) return d.getUTCMonth() === 0 || i === 0 ? `${month} ${d.getUTCFullYear()}` : month;
      return step >= 86400 ? `${d.getUTCDate()} ${month}` : d.toISOString().slice(11, 16);
    });
  }

  // Traffic stands on the same axis: a bar a day, dark as far as the outcomes are known.
  function traffic(u) {
    const { ctx, bbox } = u, ratio = devicePixelRatio, bottom = bbox.top + bbox.height, high = 30 * ratio;
    const most = Math.max(...told.predictions);
    if (!most) return;
    const wide = told.t.length > 1 ? Math.abs(u.valToPos(told.t[1], "x", true) - u.valToPos(told.t[0], "x", true)) : 8 * ratio;
    const bar = Math.max(Math.min(wide * 0.72, 24 * ratio), ratio), grey = colour("--grey");
    told.t.forEach((t, i) => {
      const x = u.valToPos(t, "x", true) - bar / 2, all = (told.predictions[i] / most) * high, known = (told.outcomes[i] / most) * high;
      ctx.fillStyle = grey + "33"; ctx.fillRect(x, bottom - all, bar, all);
      ctx.fillStyle = grey + "59"; ctx.fillRect(x, bottom - known, bar, known);
    });
  }

  // Traffic and canaries lie under the lines.
  function under(u) {
    const { ctx, bbox } = u, ratio = devicePixelRatio;
    ctx.save();
    ctx.beginPath(); ctx.rect(bbox.left, 0, bbox.width, bbox.top + bbox.height); ctx.clip();
    for (const mark of told.marks) {
      if (mark.kind !== "canary") continue;
      const left = u.valToPos(mark.start, "x", true), right = Math.max(u.valToPos(mark.end || told.now, "x", true), left + 2 * ratio);
      ctx.fillStyle = colour("--blue-soft"); ctx.fillRect(left, bbox.top, right - left, bbox.height);
      ctx.fillStyle = colour("--blue"); ctx.fillRect(left, bbox.top, ratio, bbox.height); ctx.fillRect(right - ratio, bbox.top, ratio, bbox.height);
    }
    traffic(u);
    ctx.restore();
  }

  // Releases, alarms and now stand over them.
  function over(u) {
    const { ctx, bbox } = u, ratio = devicePixelRatio, bottom = bbox.top + bbox.height;
    const family = getComputedStyle(document.body).fontFamily;
    ctx.save();
    ctx.beginPath(); ctx.rect(bbox.left - 10 * ratio, 0, bbox.width + 20 * ratio, bottom + 2 * ratio); ctx.clip();
    const at = u.valToPos(told.now, "x", true);
    ctx.strokeStyle = colour("--muted"); ctx.lineWidth = ratio; ctx.setLineDash([2 * ratio, 3 * ratio]);
    ctx.beginPath(); ctx.moveTo(at, bbox.top); ctx.lineTo(at, bottom); ctx.stroke(); ctx.setLineDash([]);
    for (const mark of told.marks) {
      const x = Math.round(u.valToPos(mark.start, "x", true));
      if (mark.kind === "release") {
        const text = String(mark.version ?? "?");
        ctx.font = `600 ${11 * ratio}px ${family}`;
        const width = Math.max(ctx.measureText(text).width + 10 * ratio, 18 * ratio);
        ctx.fillStyle = colour("--grey"); ctx.fillRect(x, bbox.top - 8 * ratio, ratio, bbox.height + 8 * ratio);
        ctx.fillStyle = colour("--ink"); ctx.beginPath(); ctx.roundRect(x - width / 2, bbox.top - 24 * ratio, width, 16 * ratio, 8 * ratio); ctx.fill();
        ctx.fillStyle = colour("--bg"); ctx.textAlign = "center"; ctx.textBaseline = "middle"; ctx.fillText(text, x, bbox.top - 15.5 * ratio);
      } else if (mark.kind === "alarm") {
        const end = u.valToPos(Math.min(mark.end || told.now, told.now), "x", true);
        ctx.fillStyle = colour("--amber");
        ctx.fillRect(x, bottom - 2 * ratio, Math.max(end - x, ratio), 2 * ratio);
        ctx.beginPath(); ctx.moveTo(x, bottom - 12 * ratio); ctx.lineTo(x + 6 * ratio, bottom - 2 * ratio); ctx.lineTo(x - 6 * ratio, bottom - 2 * ratio); ctx.fill();
      }
    }
    ctx.restore();
    if (innerWidth < 760) return;
    // Each line is named at its end, in its own colour.
    const labels = [];
    lines(drawn).forEach((one, i) => {
      const values = u.data[i * 4 + 2];
      let last = values.length - 1;
      while (last >= 0 && values[last] === null) last--;
      if (last < 0) return;
      const x = u.valToPos(Math.max(u.data[0][last], told.now), "x", true);
      if (x < bbox.left || x > bbox.left + bbox.width) return;
      labels.push({ x: x + 8 * ratio, y: u.valToPos(values[last], "y", true), text: `${one.name} ${number(values[last])}`, ink: one.ink });
    });
    labels.sort((a, b) => a.y - b.y);
    labels.forEach((l, i) => { if (i && l.y - labels[i - 1].y < 16 * ratio) l.y = labels[i - 1].y + 16 * ratio; });
    ctx.save();
    ctx.textAlign = "left"; ctx.textBaseline = "middle"; ctx.font = `600 ${12 * ratio}px ${family}`;
    for (const l of labels) {
      const width = ctx.measureText(l.text).width;
      l.x = Math.min(l.x, ctx.canvas.width - width - 4 * ratio);
      ctx.fillStyle = colour("--panel"); ctx.globalAlpha = 0.85; ctx.fillRect(l.x - 3 * ratio, l.y - 9 * ratio, width + 6 * ratio, 18 * ratio); ctx.globalAlpha = 1;
      ctx.fillStyle = colour(l.ink); ctx.fillText(l.text, l.x, l.y);
    }
    ctx.restore();
  }

  function tip(u) {
    let box = $(".tip", u.over);
    if (!box) { box = document.createElement("div"); box.className = "tip"; u.over.append(box); }
    const { left, idx } = u.cursor;
    if (idx === null || idx === undefined || left < 0) { box.hidden = true; return; }
    const t = u.posToVal(left, "x"), near = (u.scales.x.max - u.scales.x.min) * 0.006;
    const rows = [];
    const strong = document.createElement("b");
    strong.textContent = day(told.t[idx]) + (told.champion[idx] === null ? "" : ` · version ${told.champion[idx]}`);
    rows.push(strong);
    for (const one of lines(drawn)) {
      const s = told.series[one.key];
      if (!s) continue;
      if (one.monthly) { rows.push(row(`${one.name} ${number(s.line[idx])} in that month`)); continue; }
      const sure = s.low[idx] === null || !one.soft ? "" : ` (${number(s.low[idx])} to ${number(s.high[idx])})`;
      rows.push(row(`${lines(drawn).length > 1 ? one.name + " " : ""}${number(s.line[idx])} over 7 days${sure}, that day ${number(s.day[idx])}`));
    }
    rows.push(row(`${told.outcomes[idx].toLocaleString("en")} of ${told.predictions[idx].toLocaleString("en")} labels in`, "mark"));
    for (const mark of told.marks) {
      const inside = mark.end && mark.kind !== "release" ? t >= mark.start && t <= mark.end : Math.abs(mark.start - t) < near;
      if (inside || Math.abs(mark.start - t) < near) rows.push(row(`${mark.kind}: ${mark.text}`.slice(0, 160), "mark"));
    }
    box.replaceChildren(...rows.slice(0, 8));
    box.hidden = false;
    const right = left > u.over.clientWidth * 0.62;
    box.style.left = right ? "" : `${left + 12}px`;
    box.style.right = right ? `${u.over.clientWidth - left + 12}px` : "";
    box.style.top = "4px";
  }

  function row(text, kind = "") {
    const made = document.createElement("div");
    made.className = kind;
    made.textContent = text;
    return made;
  }

  function zoom(u) {
    if (u.select.width < 8) return;
    const from = u.posToVal(u.select.left, "x"), until = u.posToVal(u.select.left + u.select.width, "x");
    u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    zoomed = [from, until];
    remember({ from: day(from), until: day(until + 86400) });
    scale();
  }

  function whole() {
    zoomed = null;
    remember({ from: null, until: null });
    scale();
  }

  const again = () => { if (plot) { plot.destroy(); plot = null; } draw(); };
  let waiting = 0;
  addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(() => {
    const host = $("#chart");
    if (plot && host && (plot.width !== host.clientWidth || plot.height !== host.clientHeight)) again();
  }, 120); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-metric]");
    if (button) { remember({ metric: button.dataset.metric === "roc_auc" ? null : button.dataset.metric }); draw(); }
    if (event.target.closest("[data-whole]")) whole();
    for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  });
  document.addEventListener("dblclick", (event) => { if (event.target.closest("#chart") && plot) whole(); });

  // ── keeping up to date ─────────────────────────────────────────────────────────────────────────────────────────
  // A hidden tab asks nothing; an answer that is the same is not sent again; what somebody types is not written over.
  const tags = new Map();
  const writing = () => document.activeElement && document.activeElement.closest("form.ask") && document.activeElement.matches("input, textarea");
  document.addEventListener("htmx:before:request", (event) => {
    if (document.hidden || writing()) { event.preventDefault(); return; }
    const { request } = event.detail.ctx, version = $("[data-version]"), tag = tags.get(request.action) || (version && `"${version.dataset.version}"`);
    if (tag) request.headers["If-None-Match"] = tag;
  });
  const lost = (is) => { const note = $("#lost"); if (note) note.hidden = !is; };
  document.addEventListener("htmx:after:request", (event) => {
    const { request, response } = event.detail.ctx, tag = response.headers.get("etag");
    if (tag && response.status === 200) tags.set(request.action, tag);
    lost(response.status >= 500);
  });
  document.addEventListener("htmx:error", () => lost(true));
  document.addEventListener("htmx:after:swap", draw);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) for (const one of document.querySelectorAll("#poll, [data-wake]")) one.dispatchEvent(new Event("wake")); });

  // ── paper ──────────────────────────────────────────────────────────────────────────────────────────────────────
  // Charts are drawn again in the colours of paper, and what is folded together is opened, as long as it is being printed.
  let opened = [];
  const paper = (is) => {
    document.documentElement.toggleAttribute("data-paper", is);
    if (is) { opened = [...document.querySelectorAll("main details:not(.menu, .edit):not([open])")].filter((one) => !one.querySelector("form")); for (const one of opened) one.open = true; }
    else { for (const one of opened) one.open = false; opened = []; }
    again();
    document.dispatchEvent(new Event("treadle:paper"));
  };
  addEventListener("beforeprint", () => paper(true));
  addEventListener("afterprint", () => paper(false));

  // ── keys ───────────────────────────────────────────────────────────────────────────────────────────────────────
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input, textarea, select, [contenteditable]");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      const box = $("#q");
      if (box) { event.preventDefault(); box.focus(); box.select(); }
    } else if (event.key === "Escape" && typing) {
      event.target.blur();
    } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && event.target.matches("td a, td input[type=checkbox]")) {
      let line = event.target.closest("tr");
      do line = event.key === "ArrowDown" ? line.nextElementSibling : line.previousElementSibling; while (line && !$("a", line));
      if (line) { event.preventDefault(); $(event.target.matches("input") ? "input" : "a", line).focus(); }
    }
  });

  draw();
})();
