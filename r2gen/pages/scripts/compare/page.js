// The page of a comparison (r2gen/compare/page.py).
function showStudies() {
  if (!data.differing.length) return;
  const host = section("studies");
  const title = "Studies on which the systems differ most";
  host.append(
    heading("studies", title, headingNote(`by ${metricName(data.differ_by)}`)),
    h(
      "p.key",
      h("span", h("ins", "underlined"), " not in the reference"),
      findingKey(),
    ),
    ...browser(),
  );
}

// Controls, and the list of studies that they filter and sort.
function browser() {
  const shown = new Set(names.filter((name) => !baselines.has(name)));
  const systemsShown = () => names.filter((name) => shown.has(name));
  const lowestF1 = (row) => Math.min(2, ...systemsShown().map((name) => clinicalF1(row, name) ?? 2));
  const orders = {
    spread: ["Largest difference", (one, other) => other.spread - one.spread],
    f1: ["Lowest clinical F1", (one, other) => lowestF1(one) - lowestF1(other)],
    id: ["Id", (one, other) => compareNaturally(one.id, other.id)],
  };
  const choice = { order: "spread", wanted: "", finding: "" };
  const card = (row) => manyTexts(row, systemsShown(), `${metricName(data.differ_by)} differs by ${score(row.spread)}`);
  const pages = pagedList(studyList(data.differing), card);
  const count = h("span.count", { role: "status" });
  const text = (row) => [row.id, row.reference, ...Object.values(row.reports)].join("\n").toLowerCase();
  let matching = [];
  const apply = () => {
    matching = data.differing.filter(
      (row) => text(row).includes(choice.wanted) && matchesFinding(row, systemsShown(), choice.finding),
    );
    matching.sort(orders[choice.order][1]);
    pages.show(matching);
    count.textContent = `${matching.length} of ${data.differing.length} studies`;
  };
  const change = (key) => (value) => {
    choice[key] = value;
    apply();
  };
  const titles = Object.entries(orders).map(([key, [title]]) => [key, title]);
  apply();
  const controls = h(
    "div.panel.controls",
    { role: "search" },
    searchField("Filter by id or words", "Filter studies", change("wanted")),
    h("span.pair", findingPicker(data.differing, systemsShown(), change("finding"))),
    picker("Sort", titles, choice.order, change("order")),
    h("span.pair", button("Random", pages.random), csvButton("studies.csv", () => csvOf(matching))),
    keyOfSystems(shown, apply),
    count,
  );
  return [controls, pages.host];
}

// The studies as the rows of a table, one for each report, the names of its columns first.
function csvOf(studies) {
  const rows = studies.flatMap((row) =>
    names.map((name) => {
      const found = findingsAgainst(row, name) || { missed: [], invented: [] };
      const findings = [found.missed, found.invented].map((all) => all.join("; "));
      return [row.id, name, row.reference, row.reports[name], ...findings, clinicalF1(row, name)];
    }),
  );
  return [["id", "system", "reference", "report", "missed", "invented", "findings_f1"], ...rows];
}

showMasthead();
showScores();
showDifferences();
showFindings();
showSubgroups();
showStudies();
showFooter();
checkNavigation();
