// Charts of runs: lines (uPlot), scatter, parallel coordinates and contour (SVG and canvas of our own). What is set stands in the address.
"use strict";
window.treadleCharts = (() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const INKS = 8, DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3]];
  const ink = (i) => colour(`--s${i % INKS}`), dash = (i) => DASHES[Math.floor(i / INKS) % DASHES.length];
  const SVG = "http://www.w3.org/2000/svg";
  const address = () => new URL(location.href);
  const setting = (name, otherwise = "") => address().searchParams.get(name) ?? otherwise;
  function remember(changes) {
    const here = address();
    for (const [key, value] of Object.entries(changes)) {
      here.searchParams.delete(key);
      for (const one of Array.isArray(value) ? value : [value]) if (one !== null && one !== "") here.searchParams.append(key, one);
    }
    history.replaceState(null, "", here);
  }
  const number = (v) => {
    if (v === null || v === undefined || Number.isNaN(v)) return "—";
    const size = Math.abs(v);
    if (v !== 0 && (size < 1e-3 || size >= 1e7)) return v.toExponential(2);
    return size >= 1000 ? Math.round(v).toLocaleString("en") : String(+v.toPrecision(4));
  };
  // As the tables of the server say it.
  const said = (v) => {
    if (v === null || v === undefined || Number.isNaN(v)) return "—";
    const size = Math.abs(v);
    if (Number.isInteger(v) && size < 1e9) return v.toLocaleString("en");
    if (size < 1e-3 || size >= 1e9) return String(+v.toPrecision(3));
    return size < 10 ? v.toFixed(4) : size < 1000 ? v.toFixed(2) : v.toLocaleString("en", { maximumFractionDigits: 1 });
  };
  const seconds = (v) => (Math.abs(v) >= 7200 ? `${+(v / 3600).toFixed(1)} h` : Math.abs(v) >= 120 ? `${+(v / 60).toFixed(1)} min` : `${+v.toFixed(1)} s`);
  function make(tag, attributes = {}, ...children) {
    const node = tag.startsWith("svg:") ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "text") node.textContent = value;
      else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (value !== null && value !== false) node.setAttribute(key, value === true ? "" : value);
    }
    node.append(...children.filter(Boolean));
    return node;
  }
  const json = async (url) => {
    const answer = await fetch(url, { headers: { accept: "application/json" } });
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    return answer.json();
  };

  // ── settings ───────────────────────────────────────────────────────────────────────────────────────────────────
  function select(label, name, options, value, changed) {
    const box = make("select", { "aria-label": label, onchange: (e) => { remember({ [name]: e.target.value }); changed(); } });
    for (const [id, text] of options) box.append(make("option", { value: id, text, selected: id === value }));
    return make("label", { class: "knob" }, make("span", { text: label }), box);
  }
  function lineKnobs(host, changed) {
    const smooth = Number(setting("smooth", "0"));
    const shown = make("output", { text: String(smooth) });
    let waiting = 0;
    const slider = make("input", { type: "range", min: 0, max: 99, value: smooth, "aria-label": "smoothing, percent", oninput: (e) => {
      shown.textContent = e.target.value;
      clearTimeout(waiting);
      waiting = setTimeout(() => { remember({ smooth: e.target.value === "0" ? null : e.target.value }); changed(); }, 60);
    } });
    const along = select("along", "x", [["", "step"], ["relative", "time since start"], ["time", "time of day, UTC"]], setting("x"), () => { remember({ from: null, until: null }); showWhole(); changed(); });
    const log = make("input", { type: "checkbox", "aria-label": "logarithmic", onchange: (e) => { remember({ log: e.target.checked ? "1" : null }); changed(); } });
    log.checked = setting("log") === "1";
    host.append(
      along,
      make("label", { class: "knob" }, make("span", { text: "smooth" }), slider, shown),
      make("label", { class: "knob" }, log, make("span", { text: "log" })),
      make("button", { type: "button", "data-whole-line": true, text: "Whole line", title: "back from what is zoomed in on" }),
    );
    showWhole();
  }
  // What is zoomed in on is the same in all charts of a page, and stands in the address: steps, or seconds.
  function zoomed() {
    const [from, until] = ["from", "until"].map((name) => parseFloat(setting(name)));
    return until > from ? [from, until] : null;
  }
  function zoomTo(part) {
    remember({ from: part && String(part[0]), until: part && String(part[1]) });
    showWhole();
    document.dispatchEvent(new Event("treadle:zoom"));
  }
  const showWhole = () => { for (const button of $$("[data-whole-line]")) button.hidden = !zoomed(); };
  function brushed(u) {
    if (u.select.width < 6) return;
    const ends = [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")];
    u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    // Steps are whole; a second has milliseconds.
    const part = setting("x") ? ends.map((v) => +v.toFixed(3)) : [Math.floor(ends[0]), Math.ceil(ends[1])];
    if (part[1] > part[0]) zoomTo(part);
  }
  document.addEventListener("dblclick", (event) => { if (zoomed() && event.target.closest(".u-over")) zoomTo(null); });
  document.addEventListener("click", (event) => { if (event.target.closest("[data-whole-line]")) zoomTo(null); });
  // The query of what is drawn: fine where it is zoomed in.
  const part = () => (zoomed() ? [["from", setting("from")], ["until", setting("until")], ...(setting("x") ? [["x", setting("x")]] : [])] : []);
  const WHOLE = Array.from({ length: 14 }, (_, i) => [1, 2, 5].map((s) => s * 10 ** i)).flat();
  const WHERE = { "": "step", relative: "time since the first point", time: "time, UTC" };
  function clockTicks(u, at, axis, space, step) {
    let before = "";
    return at.map((t) => {
      if (t === null) return "";
      const d = new Date(t * 1000), day = `${d.getUTCDate()} ${d.toLocaleString("en", { month: "short", timeZone: "UTC" })}`;
      if (step >= 86400) return day;
      const clock = d.toISOString().slice(11, step < 60 ? 19 : 16), told = day === before ? clock : `${clock}\n${day}`;
      before = day;
      return told;
    });
  }

  // ── lines ──────────────────────────────────────────────────────────────────────────────────────────────────────
  // Debiased exponential mean: weight w on what was before, so that the beginning is not drawn towards zero.
  function smoothed(values, percent) {
    if (!percent) return values;
    const w = Math.min(percent / 100, 0.99);
    let mean = 0, weight = 0;
    return values.map((v) => {
      if (v === null) return null;
      mean = mean * w + v * (1 - w);
      weight = weight * w + (1 - w);
      return mean / weight;
    });
  }
  function along(line, x) {
    const at = x === "time" ? line.time.map((t) => t / 1000) : x === "relative" ? line.time.map((t) => (t - line.time[0]) / 1000) : line.step;
    const order = at.map((_, i) => i);
    let sorted = true;
    for (let i = 1; i < at.length; i++) if (at[i] < at[i - 1]) { sorted = false; break; }
    if (!sorted) order.sort((a, b) => at[a] - at[b]);
    const xs = [], ys = [];
    for (const i of order) {
      if (xs.length && xs[xs.length - 1] === at[i]) ys[ys.length - 1] = line.value[i];
      else { xs.push(at[i]); ys.push(line.value[i]); }
    }
    return [xs, ys];
  }
  function drawLines(host, told, names, tall) {
    const x = setting("x"), log = setting("log") === "1", percent = Number(setting("smooth", "0"));
    const lines = told.lines.map((line, i) => ({ ...line, i })).filter((line) => line.value.some((v) => v !== null));
    if (host.plot) { host.plot.destroy(); host.plot = null; }
    host.replaceChildren();
    if (!lines.length) { host.append(make("p", { class: "nothing", text: "No number to draw." })); return; }
    if (lines.every((line) => line.value.length === 1)) {
      const most = Math.max(...lines.map((line) => Math.abs(line.value[0]))) || 1;
      host.append(make("div", { class: "bars" }, ...lines.map((line) => {
        const bar = make("i", { class: `bar-of s${line.i % INKS}` });
        bar.style.width = `${Math.max((Math.abs(line.value[0]) / most) * 100, 0.5)}%`;
        return make("div", {}, make("span", { text: (names.get(line.id) || line.id).slice(0, 32) }), make("div", {}, bar), make("b", { text: said(line.value[0]) }));
      })));
      return;
    }
    const data = uPlot.join(lines.map((line) => {
      const positive = (ys) => (log ? ys.map((v) => (v !== null && v <= 0 ? null : v)) : ys);
      const [xs, ys] = along(line, x);
      // Of a long line only the lowest and highest of each part are here: what is smoothed is the mean of the part.
      const middle = line.mean ? along({ ...line, value: line.mean }, x)[1] : ys;
      return percent ? [xs, smoothed(positive(middle), percent), positive(ys)] : [xs, positive(ys)];
    }));
    const series = [{}];
    for (const line of lines) {
      const stroke = ink(line.i), few = line.value.length < 40;
      series.push({ label: names.get(line.id) || line.id, stroke, width: line.value.length > 500 ? 1 : 1.6, dash: dash(line.i), spanGaps: true, points: { show: few, size: 4, fill: stroke } });
      if (percent) series.push({ stroke: stroke + "40", width: 1, spanGaps: true, points: { show: false } });
    }
    const muted = colour("--muted"), font = "11.5px " + getComputedStyle(document.body).fontFamily, grid = { stroke: colour("--line"), width: 1 };
    host.plot = new uPlot({
      width: Math.max(host.clientWidth, 200), height: tall ? 360 : 180, padding: [10, 24, 0, 0], legend: { show: false },
      tzDate: (t) => uPlot.tzDate(new Date(t * 1e3), "UTC"),
      cursor: { y: false, drag: { x: true, y: false, setScale: false }, points: { size: 5 } },
      scales: { x: { time: x === "time", ...(zoomed() ? { range: zoomed() } : {}) }, y: log ? { distr: 3 } : {} },
      axes: [
        { stroke: muted, font, grid: { show: false }, ticks: { show: false }, size: x === "time" ? 42 : 26, ...(x ? {} : { incrs: WHOLE }), ...(tall ? { label: WHERE[x] || "step", labelFont: font, labelSize: 18 } : {}), values: x === "relative" ? (u, at) => at.map(seconds) : x === "time" ? clockTicks : (u, at) => at.map((v) => (v === null ? "" : number(v))) },
        { stroke: muted, font, grid, ticks: { show: false }, size: 56, values: (u, at) => at.map((v) => (v === null ? "" : number(v))) },
      ],
      series,
      hooks: { setCursor: [(u) => tip(u, lines, names, percent ? 2 : 1, x)], setSelect: [brushed] },
    }, data, host);
    host.plot.root.setAttribute("aria-hidden", "true");
    host.setAttribute("role", "img");
    host.setAttribute("aria-label", `${told.key}: ${lines.map((l) => `${names.get(l.id) || l.id} from ${number(l.min)} to ${number(l.max)}`).join("; ").slice(0, 600)}`);
  }
  function tip(u, lines, names, each, x) {
    let box = $(".tip", u.over);
    if (!box) u.over.append(box = make("div", { class: "tip" }));
    const { left, idx } = u.cursor;
    if (idx === null || idx === undefined || left < 0) { box.hidden = true; return; }
    const at = u.data[0][idx];
    const where = x === "time" ? new Date(at * 1000).toISOString().slice(0, 19).replace("T", " ") : x === "relative" ? `after ${seconds(at)}` : `step ${at.toLocaleString("en")}`;
    const rows = lines.map((line, i) => ({ line, value: u.data[1 + i * each][idx] })).filter((r) => r.value !== null && r.value !== undefined);
    rows.sort((a, b) => b.value - a.value);
    box.replaceChildren(make("b", { text: where }), ...rows.slice(0, 12).map((r) => {
      const dot = make("i", { class: `dot s${r.line.i % INKS}` });
      return make("div", {}, dot, document.createTextNode(lines.length > 1 ? ` ${number(r.value)}  ${(names.get(r.line.id) || r.line.id).slice(0, 28)}` : ` ${number(r.value)}`));
    }));
    box.hidden = !rows.length;
    const right = left > u.over.clientWidth * 0.55;
    box.style.left = right ? "" : `${left + 12}px`;
    box.style.right = right ? `${u.over.clientWidth - left + 12}px` : "";
    box.style.top = "4px";
  }
  function legend(host, told, names, path) {
    if (!host) return;
    // Of the runs that have the metric; the others are not in the picture.
    const drawn = told.lines.map((line, i) => [line.id, i, line.value.some((v) => v !== null)]).filter((one) => one[2]);
    host.replaceChildren(...(told.lines.length > 1 ? drawn.map(([id, i]) => make("span", {}, make("i", { class: `dot s${i % INKS} d${Math.floor(i / INKS) % DASHES.length}` }), make("a", { href: path + encodeURIComponent(id), text: (names.get(id) || id).slice(0, 40) }))) : []));
  }
  const thinned = (told) => told.lines.some((l) => l.thinned) ? "Of a long line the lowest and highest of each part are drawn: drag over a part to see it finer, double click for the whole; larger shows every point." : "";

  // ── points, parallel coordinates, contour ──────────────────────────────────────────────────────────────────────
  // A dimension: numbers where all of it are numbers, else words in their order, each at its place.
  function dimension(id, values) {
    const real = values.filter((v) => v !== null && v !== undefined && v !== "");
    const numbers = real.map(Number), numeric = real.length > 0 && numbers.every((v) => Number.isFinite(v));
    const words = numeric ? [] : [...new Set(real.map(String))].sort();
    const place = new Map(words.map((w, i) => [w, i]));
    const at = values.map((v) => (v === null || v === undefined || v === "" ? null : numeric ? Number(v) : place.get(String(v))));
    const known = at.filter((v) => v !== null);
    let low = Math.min(...known), high = Math.max(...known);
    if (!known.length) [low, high] = [0, 1];
    const ends = low === high ? [low] : [low, high];
    if (low === high) { const room = Math.abs(low) * 0.1 || 0.5; low -= room; high += room; }
    return { id, name: id.slice(id.indexOf(".") + 1), at, low, high, ends, words, numeric, say: (v) => (numeric ? number(v) : words[Math.round(v)] ?? "—") };
  }
  const share = (d, v) => (v - d.low) / (d.high - d.low);
  // Blue to amber through grey: told apart without red and green, in both themes.
  function shade(t) {
    const stops = [[44, 95, 214], [128, 140, 165], [214, 140, 30]], at = Math.max(0, Math.min(1, t)) * 2, i = Math.min(Math.floor(at), 1);
    return `rgb(${stops[i].map((c, k) => Math.round(c + (stops[i + 1][k] - c) * (at - i))).join(" ")})`;
  }
  function ticks(d, most = 5) {
    if (!d.numeric) return d.words.length <= 12 ? d.words.map((_, i) => i) : [0, d.words.length - 1];
    const raw = (d.high - d.low) / most, unit = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 5, 10].find((s) => s * unit >= raw) * unit;
    const found = [];
    for (let v = Math.ceil(d.low / step) * step; v <= d.high + step * 1e-6; v += step) found.push(+v.toPrecision(12));
    return found;
  }
  function plane(host, label, least = 320) {
    const width = Math.max(host.clientWidth, least), height = 380;
    const svg = make("svg:svg", { viewBox: `0 0 ${width} ${height}`, width, height, class: "plane", role: "group", "aria-label": label });
    host.replaceChildren(svg);
    return { svg, width, height };
  }
  function axes(svg, x, y, box) {
    for (const v of ticks(x)) {
      const at = box.left + share(x, v) * box.width;
      svg.append(make("svg:text", { x: at, y: box.top + box.height + 18, "text-anchor": "middle", text: x.say(v).slice(0, 14) }));
    }
    for (const v of ticks(y)) {
      const at = box.top + (1 - share(y, v)) * box.height;
      svg.append(make("svg:line", { x1: box.left, x2: box.left + box.width, y1: at, y2: at, class: "grid" }), make("svg:text", { x: box.left - 8, y: at + 4, "text-anchor": "end", text: y.say(v).slice(0, 10) }));
    }
    svg.append(make("svg:text", { x: box.left + box.width / 2, y: box.top + box.height + 38, "text-anchor": "middle", class: "axis", text: x.name }), make("svg:text", { x: box.left, y: 14, class: "axis", text: y.name }));
  }
  function scale(svg, d, right, top) {
    for (let i = 0; i < 40; i++) svg.append(make("svg:rect", { x: right, y: top + i * 4, width: 12, height: 4.5, fill: shade(1 - i / 39) }));
    svg.append(make("svg:text", { x: right + 16, y: top + 8, text: d.say(d.high) }), make("svg:text", { x: right + 16, y: top + 160, text: d.say(d.low) }), make("svg:text", { x: right + 12, y: top - 8, "text-anchor": "end", class: "axis", text: d.name.slice(0, 24) }));
  }
  function dot(told, i, path, x, y, d, at) {
    const facts = d.map((one) => `${one.name} ${one.at[i] === null ? "—" : one.say(one.at[i])}`);
    const circle = make("svg:circle", { cx: x, cy: y, r: 4.5, fill: at === null ? colour("--grey") : shade(at), class: "point" });
    return link(path + encodeURIComponent(told.runs[i]), told.names[i], facts, {}, circle);
  }
  // One stop for the keyboard in a chart of a thousand points: arrows walk along it, from the left to the right. What is under the
  // mouse or in focus says what it is.
  const says = new WeakMap();
  function link(href, name, facts, attributes, mark) {
    const made = make("svg:a", { href, "aria-label": `${name}: ${facts.join(", ")}`, tabindex: -1, ...attributes }, mark);
    says.set(made, [name, facts]);
    return made;
  }
  const across = (a) => Number(a.firstChild.getAttribute("cx"));
  function walkable(svg) {
    const first = $$("a", svg).sort((a, b) => across(a) - across(b))[0];
    if (first) first.setAttribute("tabindex", "0");
  }
  document.addEventListener("keydown", (event) => {
    const here = event.target.closest && event.target.closest("svg.plane a");
    const way = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!here || !way || event.ctrlKey || event.metaKey || event.altKey) return;
    const all = $$("a", here.closest("svg")).sort((a, b) => across(a) - across(b)), next = all[all.indexOf(here) + way];
    event.preventDefault();
    if (!next) return;
    here.setAttribute("tabindex", "-1");
    next.setAttribute("tabindex", "0");
    next.focus();
  });
  function tell(event) {
    const here = event.target.closest && event.target.closest("svg.plane a"), host = here ? here.closest("svg").parentElement : $("#plot");
    if (!host) return;
    let box = $(":scope > .tip", host);
    if (!here) { if (box) box.hidden = true; return; }
    if (!box) host.append(box = make("div", { class: "tip", "aria-hidden": true }));
    const [name, facts] = says.get(here) || ["", []];
    box.replaceChildren(make("b", { text: name.slice(0, 60) }), ...facts.slice(0, 16).map((text) => make("div", { text: text.slice(0, 60) })));
    box.hidden = false;
    const at = here.firstChild.getBoundingClientRect(), frame = host.getBoundingClientRect(), line = here.classList.contains("strand");
    const x = (line && event.clientX ? event.clientX : at.left + at.width / 2) - frame.left + host.scrollLeft, right = x > host.clientWidth * 0.6 + host.scrollLeft;
    box.style.left = `${right ? Math.max(x - box.offsetWidth - 12, 0) : x + 12}px`;
    box.style.top = `${Math.max(Math.min((line && event.clientY ? event.clientY : at.top) - frame.top + 8, host.clientHeight - box.offsetHeight - 4), 0)}px`;
  }
  document.addEventListener("mouseover", tell);
  document.addEventListener("focusin", tell);
  function scatter(host, told, ids, path) {
    const [x, y, z] = ids.map((id) => (id ? dimension(id, told.columns[id]) : null));
    for (const d of [x, y]) { const air = (d.high - d.low) * 0.03; d.low -= air; d.high += air; }
    const { svg, width, height } = plane(host, `scatter of ${y.name} by ${x.name}`);
    const box = { left: 70, top: 26, width: width - 70 - (z ? 110 : 24), height: height - 26 - 48 };
    axes(svg, x, y, box);
    let drawn = 0;
    told.runs.forEach((_, i) => {
      if (x.at[i] === null || y.at[i] === null) return;
      drawn++;
      svg.append(dot(told, i, path, box.left + share(x, x.at[i]) * box.width, box.top + (1 - share(y, y.at[i])) * box.height, [x, y, z].filter(Boolean), z ? (z.at[i] === null ? null : share(z, z.at[i])) : 0));
    });
    if (z) scale(svg, z, width - 76, 50);
    walkable(svg);
    return drawn;
  }
  // The surface between the runs: of each cell the mean of all runs, weighted by the inverse square of their distance.
  function contour(host, told, ids, path) {
    const [x, y, z] = ids.map((id) => dimension(id, told.columns[id]));
    const points = told.runs.map((_, i) => i).filter((i) => x.at[i] !== null && y.at[i] !== null && z.at[i] !== null);
    const { svg, width, height } = plane(host, `${z.name} over ${x.name} and ${y.name}`);
    const box = { left: 70, top: 26, width: width - 180, height: height - 74 };
    if (points.length) {
      const n = 56, m = 34, cells = make("canvas", { width: n, height: m }), pen = cells.getContext("2d"), levels = [];
      const at = points.map((i) => [share(x, x.at[i]), share(y, y.at[i]), share(z, z.at[i])]);
      for (let r = 0; r < m; r++) {
        levels.push([]);
        for (let c = 0; c < n; c++) {
          const px = (c + 0.5) / n, py = 1 - (r + 0.5) / m;
          let sum = 0, weight = 0;
          for (const [qx, qy, qz] of at) { const w = 1 / ((px - qx) ** 2 + (py - qy) ** 2 + 5e-4); sum += w * qz; weight += w; }
          const v = Math.round((sum / weight) * 9) / 9;
          levels[r].push(v);
          pen.fillStyle = shade(v); pen.fillRect(c, r, 1, 1);
        }
      }
      cells.className = "surface";
      Object.assign(cells.style, { left: `${box.left}px`, top: `${box.top}px`, width: `${box.width}px`, height: `${box.height}px` });
      host.prepend(cells);
    }
    axes(svg, x, y, box);
    for (const i of points) svg.append(dot(told, i, path, box.left + share(x, x.at[i]) * box.width, box.top + (1 - share(y, y.at[i])) * box.height, [x, y, z], share(z, z.at[i])));
    scale(svg, z, width - 76, 50);
    walkable(svg);
    return points.length;
  }
  function parallel(host, told, ids, path) {
    const dims = ids.map((id) => dimension(id, told.columns[id])), last = dims[dims.length - 1];
    const { svg, width, height } = plane(host, `parallel coordinates of ${dims.map((d) => d.name).join(", ")}`, 96 * dims.length);
    const left = 60, right = width - 90, top = 40, bottom = height - 16;
    const xs = dims.map((_, k) => (dims.length === 1 ? left : left + ((right - left) * k) / (dims.length - 1)));
    let drawn = 0;
    told.runs.forEach((id, i) => {
      const at = dims.map((d, k) => (d.at[i] === null ? null : `${xs[k].toFixed(1)},${(bottom - share(d, d.at[i]) * (bottom - top)).toFixed(1)}`)).filter(Boolean);
      if (at.length < 2) return;
      drawn++;
      const facts = dims.map((d) => `${d.name} ${d.at[i] === null ? "—" : d.say(d.at[i])}`);
      const strand = make("svg:polyline", { points: at.join(" "), stroke: last.at[i] === null ? colour("--grey") : shade(share(last, last.at[i])) });
      svg.append(link(path + encodeURIComponent(id), told.names[i], facts, { class: "strand" }, strand));
    });
    dims.forEach((d, k) => {
      svg.append(make("svg:line", { x1: xs[k], x2: xs[k], y1: top, y2: bottom, class: "rail" }), make("svg:text", { x: xs[k], y: k % 2 && dims.length > 6 ? 28 : 14, "text-anchor": k === 0 ? "start" : "middle", class: "axis", text: d.name.slice(0, 22) }));
      const height = (v) => bottom - share(d, v) * (bottom - top), apart = (v) => d.ends.every((end) => Math.abs(height(v) - height(end)) > 16);
      for (const v of d.numeric ? [...d.ends, ...ticks(d, 4).filter(apart)] : ticks(d, 4)) svg.append(make("svg:text", { x: xs[k] + 6, y: height(v) + 4, class: "halo", text: d.say(v).slice(0, 12) }));
    });
    walkable(svg);
    return drawn;
  }

  return { $, $$, make, json, setting, remember, select, lineKnobs, drawLines, legend, thinned, part, zoomed, scatter, contour, parallel, said };
})();
