// Line charts over training steps, and the ticks that all plots use.
const charts = [];
const DASHES = ["", "7 3", "2 3", "9 3 2 3"];
function series(label, rows, pick) {
  return { label, shown: true, points: rows.map((row) => ({ x: row.step, y: pick(row), epoch: row.epoch })) };
}
function smoothed(points) {
  const there = averaged(points), back = averaged([...points].reverse()).reverse(); // averaged in both directions, so that the line does not lag behind
  return points.map((point, index) => (isNumber(point.y) ? { ...point, y: (there[index] + back[index]) / 2 } : point));
}
function averaged(points) {
  const keep = Math.pow(0.5, 1 / Math.max(1, points.length / 60));
  let sum = 0, weight = 0;
  return points.map(({ y }) => {
    if (!isNumber(y)) return null;
    sum = keep * sum + (1 - keep) * y;
    weight = keep * weight + (1 - keep);
    return sum / weight;
  });
}
function ticks(low, high, wanted) {
  const raw = (high - low) / wanted, power = Math.pow(10, Math.floor(Math.log10(raw))), ratio = raw / power;
  const step = power * (ratio > 7 ? 10 : ratio > 3 ? 5 : ratio > 1.4 ? 2 : 1), found = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index += 1) found.push(index * step);
  return found;
}
function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    for (const digit of high / low > 300 ? [1] : [1, 2, 5]) found.push(digit * Math.pow(10, power));
  }
  return found.filter((tick) => tick >= low && tick <= high);
}
function tickText(value) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1e6) return `${Number((value / 1e6).toPrecision(4))} M`;
  if (size >= 1e4) return `${Number((value / 1e3).toPrecision(4))} k`;
  if (size < 1e-3) return value.toExponential(1).replace(".0e", "e");
  return String(Number(value.toPrecision(4)));
}
function stepDomain() {
  let first = Infinity, last = 1; // over all charts: they share one axis
  for (const chart of charts) for (const { points } of chart.all) for (const { x } of points) { first = Math.min(first, x); last = Math.max(last, x); }
  return look.log ? [Math.max(1, first), Math.max(last, 2)] : [0, last];
}
// `best` is the step at which a dotted line is drawn. Without `named` there is no legend: the read-out names the curve nearest to the pointer.
class Chart {
  constructor(title, all, { fromZero = false, smooth = false, best = null, named = true } = {}) {
    Object.assign(this, { all, fromZero, smooth, best, named, cursor: null, nearest: null });
    this.where = h("span", { class: "where number", "aria-live": "polite" });
    this.legend = h("div", { class: "legend" });
    this.plot = s("svg", { class: "plot", tabindex: "0", role: "img", "aria-label": `${title}. Arrow keys move the read-out.`,
      onpointermove: (event) => this.point(event), onpointerdown: (event) => this.point(event), onpointerleave: () => this.move(null),
      onblur: () => this.move(null), onkeydown: (event) => this.key(event) });
    this.figure = h("figure", { class: "panel chart" }, h("figcaption", {}, h("h3", {}, title), this.where), this.legend, this.plot, this.note());
    charts.push(this);
  }
  note() {
    const missing = this.all.flatMap((one) => one.points).filter((point) => !isNumber(point.y)).length;
    return missing ? h("p", { class: "small behind" }, `${plural(missing, "point is", "points are")} NaN or infinite and not drawn.`) : "";
  }
  steps() { return [...new Set(this.all.filter((one) => one.shown).flatMap((one) => one.points.map((point) => point.x)))].sort((a, b) => a - b); }
  point(event) {
    const box = this.plot.getBoundingClientRect(), x = (event.clientX - box.left) * this.width / box.width, steps = this.steps();
    if (!steps.length) return;
    const step = steps.reduce((near, other) => Math.abs(this.toX(other) - x) < Math.abs(this.toX(near) - x) ? other : near);
    if (!this.named) this.nearest = this.nearestTo(step, (event.clientY - box.top) * this.height / box.height);
    this.move(step);
  }
  nearestTo(step, y) {
    const away = (one) => { const value = this.valueAt(one, step); return isNumber(value) ? Math.abs(this.toY(value) - y) : Infinity; };
    return this.all.filter((one) => one.shown).reduce((near, one) => near === null || away(one) < away(near) ? one : near, null);
  }
  valueAt(one, step) {
    if (this.named) return this.line(one).find((point) => point.x === step)?.y;
    const points = this.line(one); // each run logs at its own steps
    return points.length ? points.reduce((near, point) => Math.abs(point.x - step) < Math.abs(near.x - step) ? point : near).y : null;
  }
  key(event) {
    const steps = this.steps(), at = this.cursor === null ? steps.length - 1 : steps.indexOf(this.cursor);
    const leap = event.shiftKey ? Math.max(1, Math.round(steps.length / 20)) : 1;
    const target = { ArrowLeft: at - leap, ArrowRight: at + leap, Home: 0, End: steps.length - 1 }[event.key];
    if (event.key === "Escape") this.move(null);
    if (target === undefined || !steps.length) return;
    event.preventDefault();
    this.move(steps[Math.min(Math.max(target, 0), steps.length - 1)]);
  }
  move(step) { this.cursor = step; this.drawCursor(); }
  colour(index) { return this.all[index].colour || `var(--c${index % 8})`; }
  dash(index) { return this.named && this.all.length > 1 ? DASHES[(index + Math.floor(index / 8)) % DASHES.length] : ""; }
  line(one) {
    if (!this.smooth || !look.smooth || one.points.length <= 8) return one.points;
    return one.smoothed ??= smoothed(one.points);
  }
  draw() {
    this.width = look.printing ? 330 : Math.max(240, Math.round(this.figure.clientWidth - 30));
    this.height = 216;
    const area = { left: 46, right: this.width - 10, top: 12, bottom: this.height - 38 };
    const [first, last] = stepDomain(), [low, high] = this.range(), bend = look.log ? Math.log : (value) => value;
    this.area = area;
    this.toX = (step) => area.left + (bend(Math.max(step, first)) - bend(first)) / (bend(last) - bend(first) || 1) * (area.right - area.left);
    this.toY = (value) => area.bottom - (value - low) / (high - low) * (area.bottom - area.top);
    this.overlay = s("g", { "pointer-events": "none" });
    this.plot.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    this.plot.replaceChildren(...this.axes(first, last, low, high), ...this.bestRule(), ...this.lines(), this.overlay);
    this.drawCursor();
  }
  range() {
    const values = this.all.filter((one) => one.shown).flatMap((one) => one.points.map((point) => point.y)).filter(isNumber);
    if (!values.length) return [0, 1];
    let low = Math.min(...values), high = Math.max(...values);
    if (this.fromZero) low = Math.min(0, low);
    if (high - low < 1e-12) { high += Math.abs(high) || 1; low -= this.fromZero ? 0 : Math.abs(low) / 2; }
    const room = (high - low) * .05;
    return [this.fromZero && low === 0 ? 0 : low - room, high + room];
  }
  axes(first, last, low, high) {
    const { left, right, top, bottom } = this.area, drawn = [];
    for (const tick of ticks(low, high, 4)) {
      const y = this.toY(tick);
      drawn.push(s("line", { class: "grid", x1: left, x2: right, y1: y, y2: y }), s("text", { x: left - 7, y: y + 4, "text-anchor": "end" }, tickText(tick)));
    }
    for (const tick of look.log ? logTicks(first, last) : ticks(first, last, this.width > 420 ? 6 : 4)) {
      const x = this.toX(tick);
      drawn.push(s("line", { class: "axis", x1: x, x2: x, y1: bottom, y2: bottom + 4 }), s("text", { x, y: bottom + 17, "text-anchor": "middle" }, tickText(tick)));
    }
    drawn.push(s("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }), s("text", { x: right, y: bottom + 33, "text-anchor": "end" }, look.log ? "optimiser step (log)" : "optimiser step"));
    return drawn;
  }
  bestRule() {
    if (this.best === null) return [];
    const x = this.toX(this.best), late = x > this.area.right - 60;
    return [s("line", { class: "best-rule", x1: x, x2: x, y1: this.area.top - 4, y2: this.area.bottom }),
      s("text", { class: "best-label", x: late ? x - 4 : x + 4, y: this.area.top - 1, "text-anchor": late ? "end" : "start" }, "best")];
  }
  lines() {
    return this.all.flatMap((one, index) => {
      if (!one.shown) return [];
      const line = this.line(one), stroke = this.colour(index), drawn = [];
      if (this.named && line !== one.points) drawn.push(s("path", { d: this.path(one.points), fill: "none", stroke, "stroke-width": 1, opacity: .32 }));
      drawn.push(s("path", { d: this.path(line), fill: "none", stroke, "stroke-width": this.named ? 2 : 1.5, "stroke-dasharray": this.dash(index), "stroke-linejoin": "round" }));
      if (one.points.length <= 30 && this.named) {
        for (const point of one.points.filter((other) => isNumber(other.y))) {
          drawn.push(s("circle", { cx: this.toX(point.x), cy: this.toY(point.y), r: point.x === this.best ? 4.2 : 2.6, fill: point.x === this.best ? "var(--panel)" : stroke, stroke, "stroke-width": 2 }));
        }
      }
      return drawn;
    });
  }
  path(points) {
    let pen = "M", text = "";
    for (const point of points) {
      if (!isNumber(point.y)) { pen = "M"; continue; }
      text += `${pen}${this.toX(point.x).toFixed(1)} ${this.toY(point.y).toFixed(1)}`;
      pen = "L";
    }
    return text;
  }
  drawCursor() {
    const step = this.cursor ?? this.steps().pop() ?? null;
    const read = this.all.filter((one) => one.shown && (this.named || one === this.nearest) && isNumber(this.valueAt(one, step)));
    const epoch = this.named && this.all.flatMap((one) => one.points).find((point) => point.x === step && isNumber(point.epoch));
    const named = this.named || this.cursor === null || !read.length ? "" : ` · ${read[0].label}: ${reading(this.valueAt(read[0], step))}`;
    this.where.textContent = step === null ? "" : `${this.cursor === null ? "last: " : ""}step ${grouped(step)}${epoch ? ` · epoch ${epoch.epoch.toFixed(2)}` : ""}${named}`;
    const x = step === null ? 0 : this.toX(step);
    this.overlay.replaceChildren(...(this.cursor === null ? [] : [s("line", { class: "rule", x1: x, x2: x, y1: this.area.top, y2: this.area.bottom }),
      ...(this.named || !read.length ? [] : [s("path", { d: this.path(this.line(read[0])), fill: "none", stroke: "var(--ink)", "stroke-width": 2.5 })]),
      ...read.map((one) => s("circle", { cx: x, cy: this.toY(this.valueAt(one, step)), r: 4, fill: this.colour(this.all.indexOf(one)), stroke: "var(--panel)", "stroke-width": 1.5 }))]));
    if (this.named) this.drawLegend(step);
  }
  drawLegend(step) {
    if (this.legend.childElementCount !== this.all.length) this.legend.replaceChildren(...this.all.map((one, index) => this.legendItem(one, index)));
    this.all.forEach((one, index) => {
      const item = this.legend.children[index];
      item.querySelector(".label").textContent = one.label + (this.line(one) === one.points ? "" : ", smoothed");
      item.querySelector("b").textContent = this.line(one).some((point) => point.x === step) ? reading(this.valueAt(one, step)) : "–";
      if (item.hasAttribute("aria-pressed")) item.setAttribute("aria-pressed", one.shown);
    });
  }
  legendItem(one, index) {
    const sample = s("svg", { width: 22, height: 8, "aria-hidden": "true" }, s("line", { x1: 0, x2: 22, y1: 4, y2: 4, stroke: this.colour(index), "stroke-width": 2.5, "stroke-dasharray": this.dash(index) }));
    if (this.all.length === 1) return h("span", { class: "item" }, sample, h("span", { class: "label" }), h("b", {}));
    return h("button", { type: "button", "aria-pressed": "true", title: "Show or hide this curve", onclick: () => { one.shown = !one.shown; this.draw(); } }, sample, h("span", { class: "label" }), h("b", {}));
  }
}
function chartSwitches() {
  return h("span", { class: "curve-switches" }, switchBox("Smooth", look.smooth, (on) => { look.smooth = on; drawCharts(); }), " \u2003",
    switchBox("Log steps", look.log, (on) => { look.log = on; drawCharts(); }));
}
function drawCharts() { charts.forEach((chart) => chart.draw()); }
// An element with all charts created so far.
function chartGrid() {
  const grid = h("div", { class: "charts" }, ...charts.map((chart) => chart.figure));
  onWidth(grid, drawCharts);
  return grid;
}
