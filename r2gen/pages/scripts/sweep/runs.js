// The head of a sweep's page, the filters, and the table of runs.
const STATES = {
  done: "finished",
  failed: "failed",
  skipped: "stopped",
  stopped: "stopped",
  running: "running",
  waiting: "stopped",
};

const BASELINES = {
  constant: ["Constant report", "baseline: one training report for all studies"],
  random: ["Random report", "baseline: a random training report for each study"],
  nearest: ["Nearest image", "baseline: the training report of the most similar images"],
};

function stateBadge(word, text = word) {
  return h("span", { class: `badge ${STATES[word] || "stopped"}` }, text);
}

function showMasthead() {
  const badges = [...new Set(rows.map((row) => row.state))].map((word) => {
    return stateBadge(word, `${rows.filter((row) => row.state === word).length} ${word}`);
  });
  const shared = Object.entries(data.shared);
  byId("masthead").append(
    h("p.eyebrow", "R2Gen · sweep"),
    h("div.name", h("h1", data.title), ...badges),
    h("p.soft.small", `${plural(rows.length, "job", "jobs")}. Page written ${moment(data.written)}.`),
    data.command ? commandLine(data.command) : "",
    shared.length ? h("dl.facts", ...shared.map(([group, option]) => fact(group, option))) : "",
    pageLinks(data.links),
    navigationBar({
      runs: "Runs",
      parallel: "Parallel coordinates",
      cost: "Quality and cost",
      curves: "Curves",
      studies: "Studies",
    }),
  );
}

function showRuns() {
  const host = section("runs");
  const table = panel();
  host.append(heading("runs", "Runs"), controls());
  if (!data.alike) {
    const text =
      "These runs were not all scored in the same way: the recipes or signatures in their metrics.json differ, " +
      "so their scores cannot be compared. Score the runs again with task=evaluate.";
    host.append(h("p.reason.stopped", text));
  }
  host.append(table);
  views.push(() => {
    const explanation = state.joined
      ? "Below each mean is its 95 % Student interval over seeds; a single seed has none. Costs are means over seeds."
      : "Below each score is its 95 % interval over studies; the intervals of a column share one scale. " +
        "Device seconds: training time multiplied by the number of ranks.";
    const bold =
      " Bold: the best run of a column, where its interval lies apart from those of all other rows and it is better " +
      "than its constant report beyond noise.";
    table.replaceChildren(runTable(), splits.length ? note(explanation, bold) : "");
  });
}

// ------------------------------------------------------------------------------------------------------------ controls
function controls() {
  const count = h("span.count", { role: "status" });
  const scores = h("select", { "aria-label": "Score", onchange: (event) => set("score")(event.target.value) });
  const option = (key) => h("option", { value: key, selected: key === state.score }, metricName(key));
  const fillScores = () => scores.replaceChildren(...scoresOfSplit().map(option));
  const changeSplit = (split) => {
    state.split = split;
    if (!scoresOfSplit().includes(state.score)) state.score = firstScore();
    fillScores();
    refresh();
  };
  fillScores();
  views.push(() => {
    count.textContent = `${shownRows().length} of ${plural(rows.length, "run", "runs")} shown`;
  });
  const splitNames = splits.map((split) => [split, splitName(split)]);
  return h(
    "div.panel.controls",
    { role: "search" },
    searchField("Filter by name or reason", "Filter runs", set("wanted")),
    ...columns.map(choiceFilter),
    splits.length ? picker("Split", splitNames, state.split, changeSplit) : "",
    splits.length ? h("label.pair", "Score", scores) : "",
    picker(
      "Colour by",
      columns.map((column) => [column, column]),
      state.by,
      set("by"),
    ),
    meanRows.length ? switchBox("Mean over seeds", false, set("joined")) : "",
    count,
  );
}

// A filter of one column: a checkbox for each of its values.
function choiceFilter(column) {
  const values = valuesOf(column);
  const hidden = (state.hidden[column] = new Set());
  const label = h("summary", `${column}: all`);
  const change = (value) => (on) => {
    if (on) hidden.delete(value);
    else hidden.add(value);
    label.textContent = `${column}: ${hidden.size ? `${values.length - hidden.size} of ${values.length}` : "all"}`;
    refresh();
  };
  const boxes = values.map((value) => switchBox(value, true, change(value)));
  return h("details.filter", label, h("div.panel.options", ...boxes));
}

// --------------------------------------------------------------------------------------------------------------- table
function runTable() {
  const shown = sorted(scoredRows());
  const scores = scoresOfSplit().map((key) => ({
    key,
    span: spanOf([...shown, ...baselineRows()].map((row) => scoreOf(row, key))),
    best: bestRow(shown, key),
  }));
  const head = h(
    "tr",
    h("th", { scope: "col" }, state.joined ? "Seeds" : "Run"),
    ...shownColumns().map((column) => sortingHead(`choice:${column}`, column)),
    ...scores.map(({ key }) => sortingHead(key, metricName(key))),
    scores.length ? "" : h("th.choice", { scope: "col" }, "Reason"),
    ...data.costs.map((cost) => sortingHead(`cost:${cost}`, COSTS[cost])),
  );
  const body = shown.map((row) => runRow(row, scores));
  const baselines = baselineRows().map((row) => baselineRow(row, scores));
  return scrolling(
    "Runs",
    h("table.scores.runs", h("thead", head), baselines.length ? h("tbody", ...baselines) : "", h("tbody", ...body)),
    "scroll tall",
  );
}

function runRow(row, scores) {
  const choices = shownColumns().map((column) => {
    const sample = column === state.by ? h("span.dot", { "aria-hidden": "true" }, dot(row)) : "";
    return h("td.choice", sample, row.choices[column]);
  });
  const unscored = !Object.keys(row.scores).length && row.reason;
  const cells = unscored
    ? [h("td.why", { colspan: Math.max(1, scores.length) }, row.reason)]
    : scores.map(({ key, best, span }) => scoreCell(scoreOf(row, key)?.value, scoreOf(row, key), row === best, span));
  const costs = data.costs.map((cost) => h("td", costText(cost, row.cost[cost])));
  return h("tr", h("th", { scope: "row" }, runName(row)), ...choices, ...cells, ...costs);
}

function baselineRow(row, scores) {
  const [title, meaning] = BASELINES[row.name] || [row.name, "baseline"];
  const jobs = row.jobs.length < rows.length ? `, ${plural(row.jobs.length, "run", "runs")}` : "";
  const cells = scores.map(({ key, span }) => scoreCell(scoreOf(row, key)?.value, scoreOf(row, key), false, span));
  const about = h("td.choice.soft", { colspan: Math.max(1, shownColumns().length) }, `${meaning}${jobs}`);
  const costs = data.costs.map(() => h("td", "–"));
  return h("tr.baseline", h("th", { scope: "row" }, title), shownColumns().length ? about : "", ...cells, ...costs);
}

function runName(row) {
  if (row.link) return h("a", { href: row.link }, row.note || "report");
  return row.state === "done" ? row.note || "done" : stateBadge(row.state);
}

// A column's header with a button that sorts by it, or turns the order round.
function sortingHead(key, text) {
  const isChoice = key.startsWith("choice:");
  const isSorted = (state.sort || state.score) === key;
  const order = state.descending ? "descending" : "ascending";
  const sort = () => {
    state.descending = isSorted ? !state.descending : !isChoice && !lowerIsBetter(key);
    state.sort = key;
    refresh();
  };
  const arrow = isSorted ? (state.descending ? " ↓" : " ↑") : "";
  const attributes = { scope: "col", class: isChoice ? "choice" : null, "aria-sort": isSorted ? order : null };
  return h("th", attributes, h("button", { type: "button", class: "sort", title: "Sort", onclick: sort }, text, arrow));
}
