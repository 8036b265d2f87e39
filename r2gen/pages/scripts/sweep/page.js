// The page of a sweep, or of any set of runs (r2gen/sweeps/page.py).
const FEW_REPORTS = 6; // shown of a study at first

function showCurves() {
  const logged = rows.filter((row) => row.losses.length);
  if (!logged.length) return;
  const host = section("curves");
  const scoreName = h("span");
  const losses = (row) => row.losses.map(([step, value]) => ({ step, value }));
  const lossCurve = (row) => ({ row, ...series(row.name, losses(row), (one) => one.value) });
  const scoreCurve = (row) => ({ row, ...series(row.name, [], () => null) });
  new Chart("Training loss", logged.map(lossCurve), { smooth: true, legend: false });
  const scores = new Chart("Validation score", logged.map(scoreCurve), { legend: false });
  host.append(
    heading("curves", "Curves", chartSwitches()),
    colourKey(),
    note("Validation score during training: ", scoreName, ". Point at a curve to see its run."),
    chartGrid(),
  );
  views.push(() => {
    const shown = new Set(shownRows().map((row) => row.name));
    scoreName.textContent = metricName(state.score || "");
    for (const curve of scores.curves) curve.points = validationPoints(curve.row);
    for (const curve of charts.flatMap((chart) => chart.curves)) {
      curve.shown = shown.has(curve.row.name);
      curve.colour = colour(curve.row);
    }
    drawCharts();
  });
}

function validationPoints(row) {
  const points = row.validations.map(([step, scores]) => ({ x: step, y: scores[state.score] ?? null }));
  return points.filter((point) => point.y !== null);
}

function showStudies() {
  const { studies } = data;
  if (!studies.length) return;
  const host = section("studies");
  const card = studyList(studies);
  const option = (row, index) => h("option", { value: index }, `${row.id}, ${splitName(row.split).toLowerCase()}`);
  const onchange = (event) => set("study")(Number(event.target.value));
  const more = button("", () => set("allReports")(!state.allReports));
  const choose = h("select", { "aria-label": "Study", onchange }, ...studies.map(option));
  const step = (by) => () => {
    set("study")((state.study + by + studies.length) % studies.length);
    choose.value = state.study;
  };
  host.append(
    heading("studies", "One study in every run"),
    h("p.key", h("span", h("ins", "underlined"), " not in the reference"), hasFindings(studies) ? findingKey() : ""),
    h(
      "div.panel.controls",
      button("Previous", step(-1)),
      h("span.pair", choose),
      button("Next", step(1)),
      more,
      h("span.count", "filtered and sorted like the runs above"),
    ),
    card,
  );
  views.push(() => {
    const study = studies[state.study];
    const names = sorted(shownRows()).map((row) => row.name);
    const reported = names.filter((name) => study.reports[name] !== undefined);
    const some = state.allReports ? reported : reported.slice(0, FEW_REPORTS);
    more.hidden = reported.length <= FEW_REPORTS;
    more.textContent = state.allReports ? `Only the first ${FEW_REPORTS}` : `All ${reported.length} reports`;
    const detail = `${some.length} of ${plural(reported.length, "run", "runs")}`;
    card.replaceChildren(manyTexts(study, some, detail));
  });
}

showMasthead();
showRuns();
showParallel();
showCost();
showCurves();
showStudies();
refresh();
showFooter();
checkNavigation();
