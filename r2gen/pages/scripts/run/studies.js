// The studies of a run's page: images, reference and report, which can be filtered and sorted.
const EVERYTHING = { wanted: "", finding: "", differing: false, cut: false };

function showStudies() {
  const { studies } = data;
  if (!studies && isOver()) return;
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
      hasFindings(studies.rows) ? findingKey() : "",
      h("span", "overlap: F1 of the longest common subsequence of words, 0 to 1"),
    ),
    ...browser(studies.rows.map(entryOf)),
  );
}

// A study with what is computed from its texts, once it is needed.
function entryOf(row) {
  let words = null;
  return {
    row,
    f1: clinicalF1(row, "report"),
    words: () => (words ??= compared(row)),
  };
}

function splitSummary({ distinct, cut, total }) {
  const reports = plural(distinct, "different report", "different reports");
  const limit = `${grouped(cut)} of ${grouped(total)} were cut at the token limit`;
  return `In the whole split, the model wrote ${reports}; ${limit}.`;
}

function selection({ rows, total }) {
  const pictured = rows.filter((row) => row.images.length).length;
  const all = plural(total, "study", "studies");
  const shown = rows.length < total ? `${grouped(rows.length)} of ${all}, spaced evenly over the sorted ids` : `All ${all}`;
  if (pictured === rows.length) return `${shown}, with images. `;
  if (!pictured) return `${shown}, without images. `;
  return `${shown}; ${grouped(pictured)} of them, spaced evenly, have images in this file (evaluate.page_studies). `;
}

// Controls, and the list of studies that they filter and sort.
function browser(entries) {
  const orders = sortings(entries);
  const state = { ...EVERYTHING, order: Object.keys(orders)[0], descending: false };
  const pages = pagedList(studyList(entries.map(({ row }) => row)), studyCard);
  const count = h("span.count", { role: "status" });
  const nothing = h("div.panel.empty", { hidden: true }, "No study matches. ");
  let matching = [];
  const apply = () => {
    const value = orders[state.order][1];
    const way = state.descending ? -1 : 1;
    const order = (one, other) => {
      return way * ((value ? value(one) - value(other) : 0) || compareNaturally(one.row.id, other.row.id));
    };
    matching = entries.filter((entry) => matches(entry, state)).sort(order);
    pages.show(matching);
    nothing.hidden = matching.length > 0;
    count.textContent = `${grouped(matching.length)} of ${grouped(entries.length)} studies`;
  };
  const change = (key) => (value) => {
    state[key] = value;
    apply();
  };
  const filters = studyFilters(entries, change);
  const showAll = () => {
    Object.assign(state, EVERYTHING);
    filters.clear();
    apply();
  };
  nothing.append(button("Show all", showAll));
  apply();
  const csv = csvButton(`${data.folder}.${data.studies.split}.csv`, () => csvOf(matching));
  const actions = h("span.pair", button("Random", pages.random), csv);
  const sort = sortControls(orders, state, change);
  return [h("div.panel.controls", { role: "search" }, ...filters.controls, sort, actions, count), pages.host, nothing];
}

function studyFilters(entries, change) {
  const label = "Filter studies by id, reference or generated text";
  const search = searchField("Filter by id or words", label, change("wanted"));
  const rows = entries.map(({ row }) => row);
  const finding = hasFindings(rows) ? findingPicker(rows, ["report"], change("finding")) : null;
  const switches = [
    switchBox("Only differing", false, change("differing")),
    switchBox("Only cut", false, change("cut")),
  ];
  const clear = () => {
    search.value = "";
    if (finding) finding.value = "";
    for (const label of switches) label.firstChild.checked = false;
    search.focus();
  };
  return { controls: [search, finding ? h("span.pair", finding) : "", ...switches], clear };
}

function sortControls(orders, state, change) {
  const turn = () => {
    change("descending")(!state.descending);
    direction.textContent = state.descending ? "↓ descending" : "↑ ascending";
  };
  const direction = button("↑ ascending", turn);
  direction.setAttribute("aria-label", "Sort direction");
  return h("span.pair", "Sort", orderPicker(orders, change("order")), direction);
}

function orderPicker(orders, change) {
  const options = Object.entries(orders).map(([value, [text]]) => h("option", { value }, text));
  return h("select", { "aria-label": "Sort by", onchange: (event) => change(event.target.value) }, ...options);
}

function matches(entry, { wanted, finding, differing, cut }) {
  const { row } = entry;
  if (differing && !entry.words().differs) return false;
  if (cut && row.finish !== "length") return false;
  if (!matchesFinding(row, ["report"], finding)) return false;
  return `${row.id}\n${row.reference}\n${row.report}`.toLowerCase().includes(wanted);
}

// The orders of studies: a title, and the value to sort by (null: the id).
function sortings(entries) {
  const orders = {};
  const pictured = entries.filter(({ row }) => row.images.length).length;
  if (pictured && pictured < entries.length) orders.images = ["Images first", ({ row }) => (row.images.length ? 0 : 1)];
  orders.id = ["Id", null];
  if (hasFindings(entries.map(({ row }) => row))) orders.f1 = ["Clinical F1 of findings", ({ f1 }) => f1 ?? 2];
  orders.overlap = ["Overlap", (entry) => entry.words().overlap];
  orders.length = ["Length of the generated report", (entry) => entry.words().report.length];
  orders.reference = ["Length of the reference", (entry) => entry.words().reference.length];
  for (const key of new Set(entries.flatMap(({ row }) => Object.keys(row.scores || {})))) {
    orders[`score ${key}`] = [metricName(key), ({ row }) => row.scores[key] ?? -Infinity];
  }
  return orders;
}

// The studies as the rows of a table, the names of its columns first.
function csvOf(entries) {
  const keys = [...new Set(entries.flatMap(({ row }) => Object.keys(row.scores || {})))];
  const head = ["id", "reference", "report", "finish", "missed", "invented", "in_both", "findings_f1", ...keys];
  const rows = entries.map(({ row, f1 }) => {
    const { missed = [], invented = [], present = [] } = findingsAgainst(row, "report") || {};
    const findings = [missed, invented, present].map((all) => all.join("; "));
    return [row.id, row.reference, row.report, row.finish, ...findings, f1, ...keys.map((key) => row.scores?.[key])];
  });
  return [head, ...rows];
}

// What the prompt has besides the images.
function contextOf({ context = {} }) {
  const fields = Object.entries(context);
  if (!fields.length) return "";
  const names = fields.map(([name]) => name.toLowerCase()).join(", ");
  const texts = fields.map(([name, text]) => h("p", { dir: "auto" }, h("b", `${name}: `), text));
  return h("div.whole", folded(`In the prompt: ${names}`, ...texts));
}

function studyCard({ row, f1, words }) {
  const { reference, report, overlap, differs } = words();
  const bar = h("i");
  bar.style.width = `${Math.round(100 * overlap)}%`;
  const limit = "Generation reached the token limit before the report ended";
  const overlapTitle = "F1 of the longest common subsequence of words, 0 to 1";
  const facts = [
    isNumber(f1) ? `findings F1 ${f1.toFixed(2)}` : null,
    plural(row.tokens, "token", "tokens"),
    row.finish,
    isNumber(row.seconds) ? duration(row.seconds) : null,
  ];
  const counted = (text) => plural(text.length, "word", "words");
  return h(
    "article",
    { class: studyClass(row) },
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
      contextOf(row),
      h(
        "div",
        h("h4", `Reference, ${counted(reference)}`),
        highlighted(row.reference, reference, "del", "not in the generated report"),
        findingChips(row, "reference"),
      ),
      h(
        "div",
        h("h4", `Generated, ${counted(report)}`),
        highlighted(row.report, report, "ins", "not in the reference"),
        findingChips(row, "report"),
      ),
      scoresLine(row.scores),
    ),
  );
}
