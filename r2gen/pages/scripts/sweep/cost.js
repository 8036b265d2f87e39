// Quality and cost: the chosen score of each run against a cost, with the Pareto front.
function showCost() {
  if (!data.costs.length || !splits.length) return;
  const host = section("cost");
  const plot = s("svg.plot", { role: "img", "aria-label": "Score against cost, with the Pareto front" });
  const parts = { plot, frame: h("div", plot), readout: h("p.small.soft.readout", { role: "status" }) };
  parts.list = h("ol.small.front");
  const costs = picker(
    "Cost",
    data.costs.map((cost) => [cost, COSTS[cost]]),
    state.cost,
    set("cost"),
  );
  const explanation =
    "Pareto front, cheapest first: no run shown is both cheaper and better. " +
    "A step between two runs whose intervals overlap may be noise.";
  host.append(
    heading("cost", "Quality and cost", h("span", costs, " ", switchBox("Log cost", false, set("log")))),
    panel(colourKey(), parts.readout, parts.frame, h("p.small", explanation), parts.list),
  );
  const draw = () => drawCost(parts);
  onWidth(parts.frame, draw);
  views.push(draw);
}

function drawCost({ plot, frame, readout, list }) {
  const shown = scoredRows().filter((row) => scoreOf(row) && isNumber(row.cost[state.cost]));
  const width = look.printing ? 640 : Math.max(260, frame.clientWidth);
  const best = front(shown);
  readout.textContent = shown.length
    ? "Point at a run to see its score and cost."
    : "None of the runs shown has both this score and this cost.";
  plot.setAttribute("viewBox", `0 0 ${width} 340`);
  plot.replaceChildren();
  list.replaceChildren(...best.map((row) => h("li", costSummary(row))));
  if (!shown.length) return;
  const scale = costScale(shown, width, 340);
  const point = (row) => runPoint(row, scale, { filled: best.includes(row), readout });
  plot.append(...costAxes(scale), s("path.pareto", { d: frontPath(best, scale) }), ...shown.map(point));
}

// The Pareto front, cheapest first: the rows for which no other row is both cheaper and better.
function front(shown) {
  const cost = (row) => row.cost[state.cost];
  const quality = (row) => gain(state.score, scoreOf(row).value);
  const byCost = [...shown].sort((one, other) => cost(one) - cost(other) || quality(other) - quality(one));
  let best = -Infinity;
  return byCost.filter((row) => {
    if (quality(row) <= best) return false;
    best = quality(row);
    return true;
  });
}

// The mapping of costs and scores to positions.
function costScale(shown, width, height) {
  const bend = state.log ? (value) => Math.log10(Math.max(value, 1e-9)) : (value) => value;
  const ends = (row) => [scoreOf(row).value, scoreOf(row).low, scoreOf(row).high];
  const [left, right] = widened(shown.map((row) => bend(row.cost[state.cost])));
  const [low, high] = widened(shown.flatMap(ends).filter(isNumber));
  const x = (value) => 52 + ((bend(value) - left) / (right - left)) * (width - 72);
  const y = (value) => height - 44 - ((value - low) / (high - low)) * (height - 60);
  return { x, y, left, right, low, high, width, height };
}

function widened(values) {
  const [low, high] = axisEnds(values);
  const margin = (high - low) * 0.06;
  return [low - margin, high + margin];
}

function costAxes({ x, y, left, right, low, high, width, height }) {
  const end = width - 20;
  const costs = state.log ? logTicks(Math.pow(10, left), Math.pow(10, right)) : ticks(left, right, width > 600 ? 7 : 4);
  const costTick = (tick) => {
    return s("text", { x: x(tick), y: height - 26, "text-anchor": "middle" }, costText(state.cost, tick));
  };
  const title = `${COSTS[state.cost]}${state.log ? " (log)" : ""}`;
  return [
    ...ticks(low, high, 5).flatMap((tick) => [
      s("line.grid", { x1: 52, x2: end, y1: y(tick), y2: y(tick) }),
      s("text", { x: 45, y: y(tick) + 4, "text-anchor": "end" }, tickText(tick)),
    ]),
    ...costs.map(costTick),
    s("line.axis", { x1: 52, x2: end, y1: height - 44, y2: height - 44 }),
    s("text", { x: end, y: height - 8, "text-anchor": "end" }, title),
    s("text", { x: 52, y: 10 }, metricName(state.score)),
  ];
}

function frontPath(best, { x, y, width }) {
  const step = (row, index) => {
    const at = x(row.cost[state.cost]).toFixed(1);
    const up = y(scoreOf(row).value).toFixed(1);
    return index ? `H${at} V${up}` : `M${at} ${up}`;
  };
  return `${best.map(step).join("")}H${width - 20}`;
}

function runPoint(row, { x, y }, { filled, readout }) {
  const { value, low, high } = scoreOf(row);
  const at = x(row.cost[state.cost]);
  const stroke = colour(row);
  const interval = { x1: at, x2: at, y1: y(low), y2: y(high), stroke, "stroke-width": 1.2, opacity: 0.6 };
  const circle = { cx: at, cy: y(value), r: 5, fill: filled ? stroke : "var(--panel)", stroke, "stroke-width": 2 };
  const group = s("g", s("title", costSummary(row)), isNumber(low) ? s("line", interval) : "", s("circle", circle));
  group.addEventListener("pointerenter", () => (readout.textContent = costSummary(row)));
  return group;
}
