// The studies of a run's page: images, reference and report, which can be filtered and sorted.
function showStudies() {
  const { studies } = data;
  const host = section("studies");
  if (!studies) {
    const text = "No generated reports yet: the run has not reached its first validation.";
    host.append(heading("studies", "Studies"), empty(text));
    return;
  }
  if (!studies.rows.length) {
    const text = `No study is shown (evaluate.page_studies=0). ${splitSummary(studies)}`;
    host.append(heading("studies", "Studies"), empty(text));
    return;
  }
  const checkpoint = studies.header.checkpoint ? `, checkpoint ${studies.header.checkpoint}` : "";
  const about = `${splitName(studies.split)} split, generation ${studies.generation}${checkpoint}`;
  host.append(
    heading("studies", "Studies", headingNote(about)),
    note(selection(studies), splitSummary(studies)),
    h(
      "p.key",
      h("span", h("del", "dashed"), " missing from the generated report"),
      h("span", h("ins", "solid"), " not in the reference"),
      h("span", "overlap: F1 of the longest common subsequence of words, 0 to 1"),
    ),
    ...browser(studies.rows.map(compared)),
  );
}

function splitSummary({ distinct, cut, total }) {
  const reports = plural(distinct, "different report", "different reports");
  const limit = `${grouped(cut)} of ${grouped(total)} were cut at the token limit`;
  return `In the whole split, the model wrote ${reports}; ${limit}.`;
}

function selection({ rows, total }) {
  const all = plural(total, "study", "studies");
  if (total <= rows.length) return `All ${all}. `;
  const spaced = "spaced evenly over the sorted ids; every update of this page shows the same ones";
  return `${rows.length} of ${all}, ${spaced}. `;
}

// Controls, and the list of studies that they filter and sort.
function browser(entries) {
  const orders = sortings(entries);
  const cards = new Map(entries.map((entry) => [entry, studyCard(entry)]));
  const state = { wanted: "", differing: false, cut: false, order: "id", descending: false };
  const list = studyList(entries.map(({ row }) => row));
  const count = h("span.count", { role: "status" });
  const direction = h("button", { type: "button", "aria-label": "Sort direction" });
  const nothing = h("div.panel.empty", { hidden: true }, "No study matches. ");
  const apply = () => {
    const value = orders[state.order][1];
    const matching = entries.filter((entry) => matches(entry, state));
    const order = (one, other) => (value ? value(one) - value(other) : 0) || compareNaturally(one.row.id, other.row.id);
    matching.sort((one, other) => (state.descending ? -1 : 1) * order(one, other));
    list.replaceChildren(...matching.map((entry) => cards.get(entry)));
    nothing.hidden = matching.length > 0;
    count.textContent = `${matching.length} of ${entries.length} shown`;
    direction.textContent = state.descending ? "↓ descending" : "↑ ascending";
  };
  const change = (key) => (value) => {
    state[key] = value;
    apply();
  };
  const label = "Filter studies by id, reference or generated text";
  const search = searchField("Filter by id or words", label, change("wanted"));
  const differing = switchBox("Only differing", false, change("differing"));
  const cut = switchBox("Only cut", false, change("cut"));
  const order = orderPicker(orders, change("order"));
  const showAll = () => {
    search.value = state.wanted = "";
    for (const [key, label] of Object.entries({ differing, cut })) label.firstChild.checked = state[key] = false;
    apply();
    search.focus();
  };
  direction.addEventListener("click", () => change("descending")(!state.descending));
  nothing.append(button("Show all", showAll));
  apply();
  const sort = h("span.pair", "Sort", order, direction);
  return [h("div.panel.controls", { role: "search" }, search, differing, cut, sort, count), list, nothing];
}

function orderPicker(orders, change) {
  const options = Object.entries(orders).map(([value, [text]]) => h("option", { value }, text));
  return h("select", { "aria-label": "Sort by", onchange: (event) => change(event.target.value) }, ...options);
}

function matches({ row, differs }, { wanted, differing, cut }) {
  if (differing && !differs) return false;
  if (cut && row.finish !== "length") return false;
  return `${row.id}\n${row.reference}\n${row.report}`.toLowerCase().includes(wanted);
}

// The orders of studies: a title, and the value to sort by (null: the id).
function sortings(entries) {
  const orders = {
    id: ["Id", null],
    overlap: ["Overlap", (entry) => entry.overlap],
    length: ["Length of the generated report", (entry) => entry.report.length],
    reference: ["Length of the reference", (entry) => entry.reference.length],
  };
  for (const key of new Set(entries.flatMap(({ row }) => Object.keys(row.scores || {})))) {
    orders[`score ${key}`] = [metricName(key), ({ row }) => row.scores[key] ?? -Infinity];
  }
  return orders;
}

function studyCard({ row, reference, report, overlap, differs }) {
  const bar = h("i");
  bar.style.width = `${Math.round(100 * overlap)}%`;
  const limit = "Generation reached the token limit before the report ended";
  const overlapTitle = "F1 of the longest common subsequence of words, 0 to 1";
  const facts = [
    plural(row.tokens, "token", "tokens"),
    row.finish,
    isNumber(row.seconds) ? duration(row.seconds) : null,
  ];
  const words = (text) => plural(text.length, "word", "words");
  return h(
    "article.panel.study",
    h(
      "header",
      h("h3", row.id),
      row.finish === "length" ? h("span.badge.stopped", { title: limit }, "cut at the token limit") : "",
      differs ? "" : h("span.badge.finished", "same words as the reference"),
      h(
        "span.number",
        { title: overlapTitle },
        h("span.bar", { "aria-hidden": "true" }, bar),
        `overlap ${overlap.toFixed(2)}`,
      ),
      h("span.number.soft", facts.filter(Boolean).join(" · ")),
    ),
    imageStrip(row),
    h(
      "div.texts",
      h(
        "div",
        h("h4", `Reference, ${words(reference)}`),
        highlighted(row.reference, reference, "del", "not in the generated report"),
      ),
      h("div", h("h4", `Generated, ${words(report)}`), highlighted(row.report, report, "ins", "not in the reference")),
      scoresLine(row.scores),
    ),
  );
}
