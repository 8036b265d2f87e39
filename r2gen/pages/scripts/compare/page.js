// The page of a comparison (r2gen/compare/page.py).
function showStudies() {
  const host = section("studies");
  if (!data.differing.length) {
    host.append(heading("studies", "Studies"), empty("No study is shown."));
    return;
  }
  const title = "Studies on which the systems differ most";
  host.append(
    heading("studies", title, headingNote(`by ${metricName(data.differ_by)}`)),
    h(
      "p.key",
      h("span", h("ins", "underlined"), " not in the reference"),
      h("span", "findings: ✓ in both texts, + only in the report, − only in the reference"),
    ),
    ...browser(),
  );
}

// Controls, and the list of studies that they filter and sort.
function browser() {
  const shown = new Set(names.filter((name) => !baselines.has(name)));
  const orders = {
    spread: ["Largest difference", (one, other) => other.spread - one.spread],
    id: ["Id", (one, other) => compareNaturally(one.id, other.id)],
  };
  const choice = { order: "spread", wanted: "" };
  const list = studyList(data.differing);
  const count = h("span.count", { role: "status" });
  const text = (row) => [row.id, row.reference, ...Object.values(row.reports)].join("\n").toLowerCase();
  const card = (row) => {
    const systems = names.filter((name) => shown.has(name));
    return manyTexts(row, systems, `${metricName(data.differ_by)} differs by ${score(row.spread)}`);
  };
  const apply = () => {
    const matching = data.differing.filter((row) => text(row).includes(choice.wanted)).sort(orders[choice.order][1]);
    list.replaceChildren(...matching.map(card));
    count.textContent = `${matching.length} of ${data.differing.length} shown`;
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
    picker("Sort", titles, choice.order, change("order")),
    keyOfSystems(shown, apply),
    count,
  );
  return [controls, list];
}

showMasthead();
showScores();
showDifferences();
showFindings();
showSubgroups();
showStudies();
showFooter();
