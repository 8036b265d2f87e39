// Line charts over training steps. All charts of a page share one axis of steps.
const charts = [];
const DASHES = ["", "7 3", "2 3", "9 3 2 3"];
const FEW_POINTS = 8; // so few are not smoothed
const DOTTED_POINTS = 30; // up to so many are drawn as dots too

// A curve with a point for each row, which is an event of train.jsonl.
function series(label, rows, pick) {
  return { label, shown: true, points: rows.map((row) => ({ x: row.step, y: pick(row), epoch: row.epoch })) };
}

function smoothed(points) {
  const forwards = averaged(points);
  const backwards = averaged([...points].reverse()).reverse(); // both directions, so that the line does not lag behind
  return points.map((point, index) =>
    isNumber(point.y) ? { ...point, y: (forwards[index] + backwards[index]) / 2 } : point,
  );
}

function averaged(points) {
  const keep = Math.pow(0.5, 1 / Math.max(1, points.length / 60));
  let sum = 0;
  let weight = 0;
  return points.map(({ y }) => {
    if (!isNumber(y)) return null;
    sum = keep * sum + (1 - keep) * y;
    weight = keep * weight + (1 - keep);
    return sum / weight;
  });
}

function stepDomain() {
  let first = Infinity;
  let last = 1;
  for (const { x } of charts.flatMap((chart) => chart.curves).flatMap((curve) => curve.points)) {
    first = Math.min(first, x);
    last = Math.max(last, x);
  }
  return look.log ? [Math.max(1, first), Math.max(last, 2)] : [0, last];
}

// A chart of curves. `best` is the step at which a dotted line is drawn. Without a `legend`, the read-out names the
// curve nearest to the pointer.
class Chart {
  constructor(title, curves, { fromZero = false, smooth = false, best = null, legend = true } = {}) {
    Object.assign(this, { curves, fromZero, smooth, best, cursor: null, nearest: null });
    this.hasLegend = legend;
    this.where = h("span.where.number", { "aria-live": "polite" });
    this.legend = h("div.legend");
    this.plot = s("svg.plot", {
      tabindex: "0",
      role: "img",
      "aria-label": `${title}. Arrow keys move the read-out.`,
      onpointermove: (event) => this.point(event),
      onpointerdown: (event) => this.point(event),
      onpointerleave: () => this.move(null),
      onblur: () => this.move(null),
      onkeydown: (event) => this.key(event),
    });
    const caption = h("figcaption", h("h3", title), this.where);
    this.figure = h("figure.panel.chart", caption, this.legend, this.plot, this.missingPoints());
    charts.push(this);
  }

  missingPoints() {
    const missing = this.curves.flatMap((curve) => curve.points).filter((point) => !isNumber(point.y)).length;
    if (!missing) return "";
    return h("p.small.behind", `${plural(missing, "point is", "points are")} NaN or infinite and not drawn.`);
  }

  // ----------------------------------------------------------------------------------------------------- the read-out
  shownCurves() {
    return this.curves.filter((curve) => curve.shown);
  }

  steps() {
    const steps = this.shownCurves().flatMap((curve) => curve.points.map((point) => point.x));
    return [...new Set(steps)].sort((one, other) => one - other);
  }

  point(event) {
    const box = this.plot.getBoundingClientRect();
    const x = ((event.clientX - box.left) * this.width) / box.width;
    const y = ((event.clientY - box.top) * this.height) / box.height;
    const steps = this.steps();
    if (!steps.length) return;
    const away = (step) => Math.abs(this.toX(step) - x);
    const step = steps.reduce((near, other) => (away(other) < away(near) ? other : near));
    if (!this.hasLegend) this.nearest = this.nearestTo(step, y);
    this.move(step);
  }

  nearestTo(step, y) {
    const away = (curve) => {
      const value = this.valueAt(curve, step);
      return isNumber(value) ? Math.abs(this.toY(value) - y) : Infinity;
    };
    const shown = this.shownCurves();
    return shown.reduce((near, curve) => (near === null || away(curve) < away(near) ? curve : near), null);
  }

  valueAt(curve, step) {
    const points = this.line(curve);
    if (this.hasLegend) return points.find((point) => point.x === step)?.y;
    if (!points.length) return null;
    const away = (point) => Math.abs(point.x - step); // each run logs at its own steps
    return points.reduce((near, point) => (away(point) < away(near) ? point : near)).y;
  }

  key(event) {
    const steps = this.steps();
    const at = this.cursor === null ? steps.length - 1 : steps.indexOf(this.cursor);
    const leap = event.shiftKey ? Math.max(1, Math.round(steps.length / 20)) : 1;
    const target = { ArrowLeft: at - leap, ArrowRight: at + leap, Home: 0, End: steps.length - 1 }[event.key];
    if (event.key === "Escape") this.move(null);
    if (target === undefined || !steps.length) return;
    event.preventDefault();
    this.move(steps[Math.min(Math.max(target, 0), steps.length - 1)]);
  }

  move(step) {
    this.cursor = step;
    this.drawCursor();
  }

  // ---------------------------------------------------------------------------------------------------------- drawing
  colour(curve) {
    return curve.colour || `var(--c${this.curves.indexOf(curve) % 8})`;
  }

  dash(curve) {
    const index = this.curves.indexOf(curve);
    return this.hasLegend && this.curves.length > 1 ? DASHES[(index + Math.floor(index / 8)) % DASHES.length] : "";
  }

  line(curve) {
    if (!this.smooth || !look.smooth || curve.points.length <= FEW_POINTS) return curve.points;
    return (curve.smoothed ??= smoothed(curve.points));
  }

  draw() {
    this.width = look.printing ? 330 : Math.max(240, Math.round(this.figure.clientWidth - 30));
    this.height = 216;
    const area = { left: 46, right: this.width - 10, top: 12, bottom: this.height - 38 };
    const [first, last] = stepDomain();
    const [low, high] = this.range();
    const bend = look.log ? Math.log : (value) => value;
    const length = bend(last) - bend(first) || 1;
    this.area = area;
    this.toX = (step) => area.left + ((bend(Math.max(step, first)) - bend(first)) / length) * (area.right - area.left);
    this.toY = (value) => area.bottom - ((value - low) / (high - low)) * (area.bottom - area.top);
    this.overlay = s("g", { "pointer-events": "none" });
    const curves = this.shownCurves().flatMap((curve) => this.drawnCurve(curve));
    this.plot.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    this.plot.replaceChildren(...this.axes(first, last, low, high), ...this.bestRule(), ...curves, this.overlay);
    this.drawCursor();
  }

  range() {
    const points = this.shownCurves().flatMap((curve) => curve.points);
    const values = points.map((point) => point.y).filter(isNumber);
    if (!values.length) return [0, 1];
    let [low, high] = axisEnds(this.fromZero ? [0, ...values] : values);
    if (this.fromZero) low = Math.min(0, ...values);
    const room = (high - low) * 0.05;
    return [this.fromZero && low === 0 ? 0 : low - room, high + room];
  }

  axes(first, last, low, high) {
    const { left, right, bottom } = this.area;
    const values = ticks(low, high, 4).flatMap((tick) => {
      const y = this.toY(tick);
      const text = s("text", { x: left - 7, y: y + 4, "text-anchor": "end" }, tickText(tick));
      return [s("line.grid", { x1: left, x2: right, y1: y, y2: y }), text];
    });
    const stepTicks = look.log ? logTicks(first, last) : ticks(first, last, this.width > 420 ? 6 : 4);
    const steps = stepTicks.flatMap((tick) => {
      const x = this.toX(tick);
      const text = s("text", { x, y: bottom + 17, "text-anchor": "middle" }, tickText(tick));
      return [s("line.axis", { x1: x, x2: x, y1: bottom, y2: bottom + 4 }), text];
    });
    const title = look.log ? "optimiser step (log)" : "optimiser step";
    return [
      ...values,
      ...steps,
      s("line.axis", { x1: left, x2: right, y1: bottom, y2: bottom }),
      s("text", { x: right, y: bottom + 33, "text-anchor": "end" }, title),
    ];
  }

  bestRule() {
    if (this.best === null) return [];
    const { right, top, bottom } = this.area;
    const x = this.toX(this.best);
    const late = x > right - 60;
    const text = { x: late ? x - 4 : x + 4, y: top - 1, "text-anchor": late ? "end" : "start" };
    return [s("line.best-rule", { x1: x, x2: x, y1: top - 4, y2: bottom }), s("text.best-label", text, "best")];
  }

  drawnCurve(curve) {
    const line = this.line(curve);
    const stroke = this.colour(curve);
    const drawn = [];
    if (this.hasLegend && line !== curve.points) {
      drawn.push(s("path", { d: this.path(curve.points), fill: "none", stroke, "stroke-width": 1, opacity: 0.32 }));
    }
    drawn.push(
      s("path", {
        d: this.path(line),
        fill: "none",
        stroke,
        "stroke-width": this.hasLegend ? 2 : 1.5,
        "stroke-dasharray": this.dash(curve),
        "stroke-linejoin": "round",
      }),
    );
    if (this.hasLegend && curve.points.length <= DOTTED_POINTS) {
      drawn.push(...curve.points.filter((point) => isNumber(point.y)).map((point) => this.pointDot(point, stroke)));
    }
    return drawn;
  }

  pointDot({ x, y }, stroke) {
    const best = x === this.best;
    const fill = best ? "var(--panel)" : stroke;
    return s("circle", { cx: this.toX(x), cy: this.toY(y), r: best ? 4.2 : 2.6, fill, stroke, "stroke-width": 2 });
  }

  path(points) {
    let pen = "M";
    let text = "";
    for (const { x, y } of points) {
      if (isNumber(y)) text += `${pen}${this.toX(x).toFixed(1)} ${this.toY(y).toFixed(1)}`;
      pen = isNumber(y) ? "L" : "M";
    }
    return text;
  }

  drawCursor() {
    const step = this.cursor ?? this.steps().pop() ?? null;
    const read = this.shownCurves().filter(
      (curve) => (this.hasLegend || curve === this.nearest) && isNumber(this.valueAt(curve, step)),
    );
    this.where.textContent = this.readOut(step, read);
    this.overlay.replaceChildren(...(this.cursor === null ? [] : this.cursorMarks(this.toX(step), step, read)));
    if (this.hasLegend) this.drawLegend(step);
  }

  readOut(step, read) {
    if (step === null) return "";
    const parts = [`${this.cursor === null ? "last: " : ""}step ${grouped(step)}`];
    const points = this.curves.flatMap((curve) => curve.points);
    const logged = this.hasLegend && points.find((point) => point.x === step && isNumber(point.epoch));
    if (logged) parts.push(`epoch ${logged.epoch.toFixed(2)}`);
    if (!this.hasLegend && this.cursor !== null && read.length) {
      parts.push(`${read[0].label}: ${reading(this.valueAt(read[0], step))}`);
    }
    return parts.join(" · ");
  }

  cursorMarks(x, step, read) {
    const marks = [s("line.rule", { x1: x, x2: x, y1: this.area.top, y2: this.area.bottom })];
    if (!this.hasLegend && read.length) {
      const d = this.path(this.line(read[0]));
      marks.push(s("path", { d, fill: "none", stroke: "var(--ink)", "stroke-width": 2.5 }));
    }
    const style = { stroke: "var(--panel)", "stroke-width": 1.5 };
    for (const curve of read) {
      const cy = this.toY(this.valueAt(curve, step));
      marks.push(s("circle", { cx: x, cy, r: 4, fill: this.colour(curve), ...style }));
    }
    return marks;
  }

  // ------------------------------------------------------------------------------------------------------- the legend
  drawLegend(step) {
    if (this.legend.childElementCount !== this.curves.length) {
      this.legend.replaceChildren(...this.curves.map((curve) => this.legendItem(curve)));
    }
    this.curves.forEach((curve, index) => {
      const item = this.legend.children[index];
      const line = this.line(curve);
      const value = line.some((point) => point.x === step) ? reading(this.valueAt(curve, step)) : "–";
      item.querySelector(".label").textContent = curve.label + (line === curve.points ? "" : ", smoothed");
      item.querySelector("b").textContent = value;
      if (item.hasAttribute("aria-pressed")) item.setAttribute("aria-pressed", curve.shown);
    });
  }

  legendItem(curve) {
    const style = { stroke: this.colour(curve), "stroke-width": 2.5, "stroke-dasharray": this.dash(curve) };
    const line = s("line", { x1: 0, x2: 22, y1: 4, y2: 4, ...style });
    const sample = s("svg", { width: 22, height: 8, "aria-hidden": "true" }, line);
    const texts = [h("span.label"), h("b")];
    if (this.curves.length === 1) return h("span.item", sample, ...texts);
    const onclick = () => {
      curve.shown = !curve.shown;
      this.draw();
    };
    const attributes = { type: "button", "aria-pressed": "true", title: "Show or hide this curve", onclick };
    return h("button", attributes, sample, ...texts);
  }
}

function chartSwitches() {
  const change = (key) => (on) => {
    look[key] = on;
    drawCharts();
  };
  const smooth = switchBox("Smooth", look.smooth, change("smooth"));
  return h("span.curve-switches", smooth, " \u2003", switchBox("Log steps", look.log, change("log")));
}

function drawCharts() {
  charts.forEach((chart) => chart.draw());
}

// An element with all charts created so far.
function chartGrid() {
  const grid = h("div.charts", ...charts.map((chart) => chart.figure));
  onWidth(grid, drawCharts);
  return grid;
}
