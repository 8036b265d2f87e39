// Parallel coordinates: a line for each run through its choices, costs and scores.
const MAIN_SCORES = ["bleu_4", "rouge_l", "cider"];
const MINOR_COSTS = ["total_seconds", "parameters"];

function showParallel() {
  const plot = s("svg.plot.wide", { role: "img", "aria-label": "Parallel coordinates: one line per run" });
  if (!splits.length) return;
  const host = scrolling("Parallel coordinates", plot);
  const readout = h("p.small.soft.readout", { role: "status" }, "Point at a line to see its run and score.");
  section("parallel").append(heading("parallel", "Parallel coordinates"), panel(colourKey(), readout, host));
  const draw = () => drawParallel(plot, host, readout);
  onWidth(host, draw);
  views.push(draw);
}

function drawParallel(plot, host, readout) {
  const shown = scoredRows().filter((row) => Object.keys(row.scores).length);
  const axes = parallelAxes(shown);
  const [height, top, bottom] = [300, 36, 286];
  const width = look.printing ? 660 : Math.max(host.clientWidth, 86 * axes.length + 80);
  const x = (index) => 50 + (index * (width - 110)) / Math.max(1, axes.length - 1);
  const y = (share) => bottom - share * (bottom - top);
  const rules = axes.map((_, index) => s("line.axis", { x1: x(index), x2: x(index), y1: top, y2: bottom }));
  plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
  plot.style.width = `${width}px`;
  plot.replaceChildren(
    ...rules,
    ...shown.map((row) => runLine(row, axes, x, y, readout)),
    ...axes.flatMap((axis, index) => axisTexts(axis, index, x, y)),
  );
}

function runLine(row, axes, x, y, readout) {
  const points = axes.map((axis, index) => [x(index), axis.share(row)]).filter(([, share]) => isNumber(share));
  const at = ([left, share]) => `${left.toFixed(1)} ${y(share).toFixed(1)}`;
  const path = points.length ? `M${points.map(at).join("L")}` : "";
  const line = s("path.run-line", { d: path, stroke: colour(row) }, s("title", scoreSummary(row)));
  line.addEventListener("pointerenter", () => (readout.textContent = scoreSummary(row)));
  return line;
}

function axisTexts(axis, index, x, y) {
  const place = { x: x(index), y: 15 + 14 * (index % 2), "text-anchor": "middle" };
  return [
    s("text.row-label", place, s("title", axis.label), shortened(axis.label, 150)),
    ...axis.ticks.map(([share, text]) => {
      return s("text.halo", { x: x(index) + 5, y: y(share) + 4 }, shortened(String(text), 90));
    }),
  ];
}

// Axes { label, share(row), ticks }, where a share is a position from 0 (bottom) to 1 (top).
function parallelAxes(shown) {
  const costs = data.costs.filter((cost) => !MINOR_COSTS.includes(cost));
  const scores = scoresOfSplit().filter((key) => key === state.score || MAIN_SCORES.includes(key));
  const costAxis = (cost) =>
    numericAxis(
      COSTS[cost],
      shown,
      (row) => row.cost[cost],
      (value) => costText(cost, value),
    );
  const scoreAxis = (key) => numericAxis(metricName(key), shown, (row) => scoreOf(row, key)?.value, score);
  return [...shownColumns().map(choiceAxis), ...costs.map(costAxis), ...scores.map(scoreAxis)];
}

function choiceAxis(column) {
  const values = valuesOf(column);
  const share = (value) => (values.length > 1 ? values.indexOf(value) / (values.length - 1) : 0.5);
  return { label: column, share: (row) => share(row.choices[column]), ticks: values.map((one) => [share(one), one]) };
}

function numericAxis(label, shown, valueOf, text) {
  const numbers = shown.map(valueOf).filter(isNumber);
  const [low, high] = axisEnds(numbers);
  const share = (value) => (value - low) / (high - low);
  const shareOf = (row) => (isNumber(valueOf(row)) ? share(valueOf(row)) : null);
  const [least, most] = [Math.min(...numbers), Math.max(...numbers)];
  const values = numbers.length ? [least, (least + most) / 2, most] : [];
  const byText = new Map(values.map((value) => [text(value), share(value)])); // each text once
  return { label, share: shareOf, ticks: [...byText].map(([marked, at]) => [at, marked]) };
}
