// The page of a comparison (r2gen/compare/page.py).
const systems = data.systems, names = systems.map(({ name }) => name), baselines = new Set(systems.filter(({ kind }) => kind === "null").map(({ name }) => name));
const scoreNames = tableScores(names.flatMap((name) => Object.keys(data.scores[name] || {})));
function indexOf(name) { return names.indexOf(name); }
function valuesIn(found, shown) {
  return names.filter((name) => shown.has(name) && found[name]).map((name) => ({ ...found[name], index: indexOf(name), hollow: baselines.has(name),
    title: `${name}: ${score(found[name].value)}, 95 % ${range(found[name])}` }));
}
function keyed() { return systems.map(({ name }) => ({ name, hollow: baselines.has(name) })); }
function valuesOf(found) { return Object.fromEntries(Object.entries(found).map(([system, scores]) => [system, Object.fromEntries(Object.entries(scores).map(([key, one]) => [key, one.value]))])); }

// The facts of the runs: those that all share in one line, the others with each run.
function showMasthead() {
  const compared = systems.filter(({ name }) => !baselines.has(name)), facts = compared.filter(({ kind }) => kind === "run").map(({ about }) => about);
  const keys = [...new Set(facts.flatMap((about) => Object.keys(about)))], alike = facts.length > 1 ? keys.filter((key) => facts.every((about) => about[key] === facts[0][key])) : [];
  byId("masthead").append(h("p", { class: "eyebrow" }, "R2Gen · comparison"), h("div", { class: "name" }, h("h1", {}, data.title)),
    h("p", { class: "soft small" }, `${splitName(data.split)} split, ${plural(data.studies, "study", "studies")}, references ${data.references}. Page written ${moment(data.written)}.`),
    alike.length ? h("p", { class: "soft small" }, `Shared by all runs: ${alike.map((key) => `${key} ${facts[0][key]}`).join(", ")}.`) : "",
    h("dl", { class: "facts wide" }, ...compared.map(({ name, kind, source, about }) =>
      fact(name, Object.keys(about).filter((key) => !alike.includes(key)).map((key) => `${key} ${about[key]}`).join(", ") || (kind === "file" ? "reports from a file" : kind), source))),
    navigation([["scores", "Scores"], ["differences", "Differences"], ["findings", "Findings"], ["strata", "Subgroups"], ["studies", "Studies"]]));
}

function showScores() {
  const labels = Object.fromEntries(systems.map(({ name, kind, source }) => [name, [name, kind === "null" ? source : ""]]));
  const panel = h("div", { class: "panel" }, scoreTable(valuesOf(data.scores), data.scores, null, labels), h("p", { class: "small soft" }, "Below each score is its 95 % interval; the intervals of a column share one scale."), ...data.notes.map((note) => h("p", { class: "small soft" }, note)));
  section("scores").append(heading("scores", "Scores", h("span", { class: "soft small" }, "bold: the highest score of each column")), panel, joinedSeeds(), h("div", { class: "panel" }, signatureList(data.signatures, data.recipe)));
}
function joinedSeeds() {
  if (!data.joined.length) return "";
  const found = Object.fromEntries(data.joined.map((one) => [one.name, one.scores]));
  const labels = Object.fromEntries(data.joined.map((one) => [one.name, [one.name, `seeds ${one.seeds.join(", ")}`]]));
  return h("div", { class: "panel" }, h("h3", {}, "Mean over seeds"), scoreTable(valuesOf(found), found, null, labels),
    h("p", { class: "small soft" }, "Below each mean is its 95 % Student interval over seeds: how much the score varies between trainings of the same configuration. A single seed has none."),
    ...data.joined_pairs.length ? [differenceTable("Differences of means over seeds", data.joined_pairs)] : []);
}

// A table of pairs { score, first, second, difference, within_noise }, with p where the pairs were tested.
function differenceTable(title, rows) {
  const tested = rows.some((row) => "p" in row);
  return h("details", {}, h("summary", {}, title), scrolling(title, h("table", {},
    h("thead", {}, h("tr", {}, ...["Score", "Between", "Difference", "95 %", ...(tested ? ["p", "p, Holm"] : ["Seeds"]), ""].map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, ...rows.map((row) => h("tr", {}, h("th", { scope: "row" }, metricName(row.score)), h("td", { class: "between" }, `${row.second} − ${row.first}`), h("td", {}, signed(row.difference.value)), h("td", {}, range(row.difference)),
      ...(tested ? [h("td", {}, probability(row.p)), h("td", {}, probability(row.p_holm))] : [h("td", {}, row.seeds.join(", "))]),
      h("td", { class: row.within_noise ? "soft" : gain(row.score, row.difference.value) > 0 ? "ahead" : "behind" }, row.within_noise ? "within noise" : "differ")))))));
}
function showDifferences() {
  const host = section("differences"), compared = tableScores(data.pairs.map((pair) => pair.score));
  if (!compared.length) { host.append(heading("differences", "Paired differences"), empty("There is only one system, or no score that two systems share.")); return; }
  const state = { score: compared.includes(data.differ_by) ? data.differ_by : compared[0], with: "", sure: false, baselines: false }, counts = h("p", { class: "small", role: "status" });
  const chosen = () => data.pairs.filter((pair) => pair.score === state.score && (!state.with || pair.first === state.with || pair.second === state.with)
    && (!state.sure || !pair.within_noise) && (state.baselines || !(baselines.has(pair.first) && baselines.has(pair.second))));
  const plot = dotPlot("Paired differences", () => chosen().map((pair) => ({ label: `${pair.second} − ${pair.first}`, note: pair.within_noise ? "within noise" : `p ${probability(pair.p_holm)}`,
    values: [{ ...pair.difference, index: pair.within_noise ? 5 : pair.difference.value > 0 ? 2 : 1, hollow: pair.within_noise,
      title: `${signed(pair.difference.value)}, 95 % ${range(pair.difference)}, p ${probability(pair.p)}, Holm ${probability(pair.p_holm)}` }] })), { middle: 0, axis: "second − first" });
  const change = (key) => (value) => {
    state[key] = value;
    const pairs = chosen(), noise = pairs.filter((pair) => pair.within_noise).length;
    counts.textContent = `${metricName(state.score)}: ${plural(pairs.length, "pair", "pairs")}, ${noise} within noise.`;
    plot.draw();
  };
  host.append(heading("differences", "Paired differences"), h("div", { class: "panel controls" }, picker("Score", compared.map((key) => [key, metricName(key)]), state.score, change("score")),
    picker("With", [["", "any system"], ...names.map((name) => [name, name])], "", change("with")), switchBox("Only beyond noise", false, change("sure")), baselines.size > 1 ? switchBox("Pairs of baselines", false, change("baselines")) : ""),
    h("div", { class: "panel" }, counts, plot.host, h("p", { class: "small soft" }, "Each line is the 95 % interval of second − first from a paired bootstrap over studies. p is from a paired randomisation test, which swaps the two systems' reports of a study at random, with Holm's correction over all pairs of systems in a score. Within noise: p is .05 or more."),
      differenceTable("All differences as a table", data.pairs.filter((pair) => inTable(pair.score)))));
  change("score")(state.score);
}

function showFindings() {
  const host = section("findings"), all = Object.entries(data.findings), shown = new Set(names.filter((name) => !baselines.has(name) || name === "constant"));
  if (!all.length) { host.append(heading("findings", "Findings"), empty("No findings were scored. Add findings to metrics=[...] to compare the findings of reports and references.")); return; }
  const plot = dotPlot("F1 of each finding", () => all.map(([finding, of]) => ({ label: `${finding} (${Math.max(...Object.values(of).map((one) => one.support))})`,
    values: valuesIn(Object.fromEntries(Object.entries(of).filter(([, one]) => one.f1).map(([name, one]) => [name, one.f1])), shown) })), { axis: "F1" });
  const none = all.filter(([, of]) => Object.values(of).every((one) => !one.f1)).map(([finding]) => finding);
  host.append(heading("findings", "F1 of each finding"), h("div", { class: "panel" }, systemKey(keyed(), shown, plot.draw), plot.host,
    h("p", { class: "small soft" }, "In parentheses: references with the finding. The fewer there are, the wider the interval.", none.length ? ` In no reference: ${none.join(", ")}.` : ""),
    h("details", {}, h("summary", {}, "As a table"), scrolling("Each finding", h("table", {},
      h("thead", {}, h("tr", {}, ...["Finding", "System", "Support", "Stated", "Precision", "Recall", "F1", "95 %"].map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, ...all.flatMap(([finding, of]) => names.filter((name) => of[name]).map((name) => h("tr", {}, h("th", { scope: "row" }, finding), h("td", {}, name), h("td", {}, grouped(of[name].support)), h("td", {}, grouped(of[name].stated)),
        h("td", {}, score(of[name].precision)), h("td", {}, score(of[name].recall)), h("td", {}, score(of[name].f1?.value)), h("td", {}, of[name].f1 ? range(of[name].f1) : "–"))))))))));
}

function showStrata() {
  const host = section("strata"), keys = tableScores(data.strata.flatMap((one) => Object.values(one.scores).flatMap((of) => Object.keys(of))));
  if (!keys.length) { host.append(heading("strata", "Subgroups of studies"), empty("There is no score by subgroup.")); return; }
  const shown = new Set(names.filter((name) => !baselines.has(name) || name === "constant")), kinds = { reference: "By the reference's findings", length: "By the reference's length" };
  let key = keys.includes(data.differ_by) ? data.differ_by : keys[0];
  const plots = [...new Set(data.strata.map((one) => one.kind))].map((kind) => [kind, dotPlot(kinds[kind] || kind, () => data.strata.filter((one) => one.kind === kind).map((one) => ({
    label: `${one.name} (${grouped(one.studies)})`, values: valuesIn(Object.fromEntries(Object.entries(one.scores).map(([name, of]) => [name, of[key]])), shown) })), { axis: "" })]);
  const draw = () => plots.forEach(([, plot]) => plot.draw());
  host.append(heading("strata", "Subgroups of studies", picker("Score", keys.map((one) => [one, metricName(one)]), key, (value) => { key = value; draw(); })),
    h("div", { class: "panel" }, systemKey(keyed(), shown, draw), ...plots.flatMap(([kind, plot]) => [h("h3", {}, kinds[kind] || kind), plot.host]),
      h("p", { class: "small soft" }, "In parentheses: studies of the subgroup. Compare systems within a subgroup, not subgroups with each other: short or normal reports are easier to write.")));
}

function showStudies() {
  const host = section("studies"), shown = new Set(names.filter((name) => !baselines.has(name)));
  if (!data.differing.length) { host.append(heading("studies", "Studies"), empty("No study is shown.")); return; }
  const list = h("div", { class: data.differing.some((row) => row.images.length > 1) ? "pairs-of-images" : null }), count = h("span", { class: "count", role: "status" });
  const orders = { spread: ["Largest difference", (one, other) => other.spread - one.spread], id: ["Id", (one, other) => one.id.localeCompare(other.id, "en", { numeric: true })] };
  const state = { order: "spread", wanted: "" };
  const apply = () => {
    const matching = data.differing.filter((row) => [row.id, row.reference, ...Object.values(row.reports)].join("\n").toLowerCase().includes(state.wanted)).sort(orders[state.order][1]);
    list.replaceChildren(...matching.map((row) => manyTexts(row, names.filter((name) => shown.has(name)), `${metricName(data.differ_by)} differs by ${score(row.spread)}`)));
    count.textContent = `${matching.length} of ${data.differing.length} shown`;
  };
  host.append(heading("studies", "Studies on which the systems differ most", h("span", { class: "soft small" }, `by ${metricName(data.differ_by)}`)),
    h("p", { class: "key" }, h("span", {}, h("ins", {}, "underlined"), " not in the reference"), h("span", {}, "findings: ✓ in both texts, + only in the report, − only in the reference")),
    h("div", { class: "panel controls", role: "search" }, h("input", { type: "search", placeholder: "Filter by id or words", "aria-label": "Filter studies", oninput: (event) => { state.wanted = event.target.value.trim().toLowerCase(); apply(); } }),
      picker("Sort", Object.entries(orders).map(([key, [label]]) => [key, label]), "spread", (value) => { state.order = value; apply(); }), systemKey(keyed(), shown, apply), count), list);
  apply();
}

showMasthead();
showScores();
showDifferences();
showFindings();
showStrata();
showStudies();
showFooter();
