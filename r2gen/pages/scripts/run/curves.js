// The curves of a run's training and validations.
const MOST_RATIO = 3; // between the scores of one chart
function showCurves() {
  const { steps, validations, logged } = data.curves;
  if (!steps.length && !validations.length && isOver()) return;
  const host = section("curves");
  if (!steps.length && !validations.length) {
    host.append(heading("curves", "Curves"), empty("No training step is recorded in this folder yet."));
    return;
  }
  const keys = tableScores(validations.flatMap((row) => Object.keys(row.scores || {})));
  makeCharts(steps, validations, keys);
  host.append(heading("curves", "Curves", chartSwitches()), chartGrid());
  if (steps.length < logged) {
    const drawn = `${grouped(steps.length)} of ${grouped(logged)} recorded steps are drawn`;
    host.append(note(`${drawn}: those with the lowest and the highest loss of each interval.`));
  }
  if (keys.length) host.append(h("div.panel.after", validationTable(validations, keys)));
  drawCharts();
}

function makeCharts(steps, validations, keys) {
  const best = lastBest()?.step ?? null;
  const ofSteps = (title, label, key, options) => {
    const curve = series(label, steps, (row) => row[key]);
    if (steps.some((row) => key in row)) new Chart(title, [curve], { best, ...options });
  };
  ofSteps("Training loss", "loss per target token", "loss", { smooth: true });
  if (keys.length) {
    for (const [title, group] of scoreGroups(validations, keys)) {
      const curves = group.map((key) => series(metricName(key), validations, (row) => row.scores?.[key]));
      new Chart(title, curves, { fromZero: true, best });
    }
  }
  ofSteps("Learning rate", "learning rate", "lr", { fromZero: true });
  ofSteps("Gradient norm", "norm before clipping", "grad_norm", { fromZero: true, smooth: true });
}

// The scores of each chart: in one chart, the largest values differ by less than a factor of three.
function scoreGroups(validations, keys) {
  const highest = (key) => Math.max(0, ...validations.map((row) => row.scores?.[key]).filter(isNumber));
  const groups = [];
  for (const key of [...keys].sort((one, other) => highest(other) - highest(one))) {
    const last = groups.at(-1);
    if (last && highest(key) * MOST_RATIO > highest(last[0])) last.push(key);
    else groups.push([key]);
  }
  const title = (group) => (group.length > 3 ? "other scores" : group.map(metricName).join(", "));
  return groups.map((group) => [
    groups.length === 1 ? "Validation scores" : `Validation: ${title(group)}`,
    keys.filter((key) => group.includes(key)),
  ]);
}

function lastBest() {
  return data.curves.validations.filter((row) => row.best).at(-1) || null;
}

function validationTable(validations, keys) {
  const best = lastBest();
  const rows = validations.map((row) => [
    `${grouped(row.step)}${row === best ? " ★ best" : ""}`,
    isNumber(row.epoch) ? row.epoch.toFixed(2) : "–",
    ...keys.map((key) => score(row.scores?.[key])),
    score(row.selection),
  ]);
  const columns = ["Step", "Epoch", ...keys.map(metricName), "Selection"];
  return folded("Validations as a table", plainTable("Validations", columns, rows));
}
