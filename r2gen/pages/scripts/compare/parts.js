// Scores by finding and by subgroup of studies.
function showFindings() {
  const findings = Object.entries(data.findings);
  if (!findings.length) return;
  const host = section("findings");
  const shown = shownAtFirst();
  const plot = dotPlot("F1 of each finding", () => findings.map((one) => findingRow(one, shown)), { axis: "F1" });
  const unseen = findings.filter(([, systems]) => Object.values(systems).every((one) => !one.f1));
  const explanation = note(
    "In parentheses: references with the finding. The fewer there are, the wider the interval.",
    unseen.length ? ` In no reference: ${unseen.map(([finding]) => finding).join(", ")}.` : "",
  );
  host.append(
    heading("findings", "F1 of each finding"),
    panel(keyOfSystems(shown, plot.draw), plot.host, explanation, folded("As a table", findingTable(findings))),
  );
}

function findingRow([finding, bySystem], shown) {
  const support = Math.max(...Object.values(bySystem).map((one) => one.support));
  const f1 = Object.fromEntries(Object.entries(bySystem).map(([name, one]) => [name, one.f1]));
  return { label: `${finding} (${support})`, values: plotValues(f1, shown) };
}

function findingTable(findings) {
  const columns = ["Finding", "System", "Support", "Stated", "Precision", "Recall", "F1", "95 %"];
  const rows = findings.flatMap(([finding, bySystem]) => {
    const systems = names.filter((name) => bySystem[name]).map((name) => [name, bySystem[name]]);
    return systems.map(([name, { support, stated, precision, recall, f1 }]) => {
      const rates = [score(precision), score(recall), score(f1?.value)];
      return [finding, name, grouped(support), grouped(stated), ...rates, f1 ? range(f1) : "–"];
    });
  });
  return plainTable("Each finding", columns, rows);
}

function showSubgroups() {
  const keys = tableScores(
    data.strata.flatMap(({ scores }) => Object.values(scores).flatMap((one) => Object.keys(one))),
  );
  if (!keys.length) return;
  const host = section("strata");
  const shown = shownAtFirst();
  const titles = {
    reference: "By the reference's findings",
    length: "By the reference's length",
    set: "By data set",
  };
  let key = keys.includes(data.differ_by) ? data.differ_by : keys[0];
  const kinds = [...new Set(data.strata.map((one) => one.kind))];
  const plots = kinds.map((kind) => {
    const strata = data.strata.filter((one) => one.kind === kind);
    const title = titles[kind] || kind;
    return { title, ...dotPlot(title, () => strata.map((one) => subgroupRow(one, key, shown))) };
  });
  const draw = () => plots.forEach((plot) => plot.draw());
  const changeScore = (value) => {
    key = value;
    draw();
  };
  const explanation =
    "In parentheses: studies of the subgroup. Compare systems within a subgroup, not subgroups with each other: " +
    "short or normal reports are easier to write.";
  const scores = picker(
    "Score",
    keys.map((one) => [one, metricName(one)]),
    key,
    changeScore,
  );
  host.append(
    heading("strata", "Subgroups of studies", scores),
    panel(keyOfSystems(shown, draw), ...plots.flatMap(({ title, host }) => [h("h3", title), host]), note(explanation)),
  );
}

function subgroupRow({ name, studies, scores }, key, shown) {
  const ofScore = Object.fromEntries(Object.entries(scores).map(([system, one]) => [system, one[key]]));
  return { label: `${name} (${grouped(studies)})`, values: plotValues(ofScore, shown) };
}
