// The page of task=index (r2gen/tasks/index.py): runs, sweeps and comparisons with links to their pages.
const { runs, sweeps, comparisons, unreadable } = data.listed;
const splits = [...new Set(runs.flatMap((run) => Object.keys(run.splits)))];
const choice = { split: splits.includes("test") ? "test" : splits[0], wanted: "", sort: "date", descending: true };
const pageOf = Object.fromEntries([...sweeps, ...comparisons].map((one) => [one.name, one.page]));

function linked(name, page) {
  return page ? h("a", { href: page }, name) : name;
}

function showMasthead() {
  byId("masthead").append(
    h("p.eyebrow", "R2Gen · index"),
    h("div.name", h("h1", data.title)),
    h("p.soft.small", `Written ${moment(data.written)} by task=index, which brings it up to date.`),
    navigationBar({ runs: "Runs", sweeps: "Sweeps", comparisons: "Comparisons", unreadable: "Unreadable" }),
  );
}

function showRuns() {
  const host = section("runs");
  if (!runs.length) {
    host.append(heading("runs", "Runs"), empty("There is no run in this folder."));
    return;
  }
  const table = panel();
  const count = h("span.count", { role: "status" });
  const apply = () => {
    const shown = runs.filter((run) => textOf(run).includes(choice.wanted));
    count.textContent = `${shown.length} of ${plural(runs.length, "run", "runs")}`;
    table.replaceChildren(runTable(shown, apply), note(explanation()));
  };
  const change = (key) => (value) => {
    choice[key] = value;
    apply();
  };
  const splitNames = splits.map((split) => [split, splitName(split)]);
  const search = searchField("Filter by name, model, data or status", "Filter runs", change("wanted"));
  const split = splits.length > 1 ? picker("Split", splitNames, choice.split, change("split")) : "";
  apply();
  host.append(heading("runs", "Runs"), h("div.panel.controls", { role: "search" }, search, split, count), table);
}

function textOf(run) {
  return [run.name, run.status, run.reason || "", ...Object.values(run.choices)].join("\n").toLowerCase();
}

function explanation() {
  return (
    "Below each score is its margin over the constant report, gray if it is within noise. " +
    "Scores of runs on different data or with different metrics cannot be compared; task=compare checks that."
  );
}

function sortValue(run, key) {
  if (key === "date") return run.started || "";
  if (key === "name") return run.name;
  return run.splits[choice.split]?.scores[key] ?? null;
}

function sorted(shown) {
  const has = (run) => sortValue(run, choice.sort) !== null;
  const order = (one, other) => compareNaturally(sortValue(one, choice.sort), sortValue(other, choice.sort));
  const rows = shown.filter(has).sort((one, other) => (choice.descending ? -1 : 1) * order(one, other));
  return [...rows, ...shown.filter((run) => !has(run))];
}

function runTable(shown, apply) {
  const keys = tableScores(runs.flatMap((run) => Object.keys(run.splits[choice.split]?.scores || {})));
  const head = (key, text) => {
    const isSorted = choice.sort === key;
    const sort = () => {
      choice.descending = isSorted ? !choice.descending : key !== "name" && !lowerIsBetter(key);
      choice.sort = key;
      apply();
    };
    const arrow = isSorted ? (choice.descending ? " ↓" : " ↑") : "";
    const order = isSorted ? (choice.descending ? "descending" : "ascending") : null;
    const control = h("button", { type: "button", class: "sort", title: "Sort", onclick: sort }, text, arrow);
    return h("th", { scope: "col", "aria-sort": order }, control);
  };
  const columns = [head("name", "Run"), h("th.choice", "Choices"), head("date", "Started")];
  const scores = keys.map((key) => head(key, metricName(key)));
  const body = sorted(shown).map((run) => runRow(run, keys));
  return scrolling("Runs", h("table.scores.index", h("thead", h("tr", ...columns, ...scores)), h("tbody", ...body)));
}

function runRow(run, keys) {
  const { scores = {}, margins = {}, verdict = [] } = run.splits[choice.split] || {};
  const kind = { finished: "finished", failed: "failed", running: "running" }[run.status] || "stopped";
  const memberships = run.part_of.flatMap((name) => [linked(name, pageOf[name]), h("br")]).slice(0, -1);
  const name = h(
    "th",
    { scope: "row" },
    linked(run.name, run.page),
    " ",
    h("span", { class: `badge ${kind}` }, run.status),
    h("span.small", verdict[0] || run.reason || ""),
    memberships.length ? h("span.small", "in ", ...memberships) : "",
  );
  const choices = Object.entries(run.choices).map(([group, option]) => h("span.small.pairing", `${group} ${option}`));
  const cells = keys.map((key) => {
    const { value, within_noise: noise } = margins[key] || {};
    if (!isNumber(value)) return h("td", score(scores[key]));
    const title = noise ? "within noise" : "beyond noise";
    return h("td", score(scores[key]), h("span", { class: `ends ${noise ? "noise" : ""}`, title }, difference(key, value)));
  });
  return h("tr", name, h("td.choice", ...choices), h("td", moment(run.started).slice(0, 10)), ...cells);
}

function textTable(...table) {
  return h("div.texted", plainTable(...table));
}

function showSweeps() {
  if (!sweeps.length) return;
  const rows = sweeps.map((one) => [
    linked(one.name, one.page),
    Object.entries(one.counts)
      .map(([state, count]) => `${count} ${state}`)
      .join(", "),
    moment(one.started),
    h("code", one.command),
  ]);
  const columns = ["Sweep", "Jobs", "Started", "Command"];
  section("sweeps").append(heading("sweeps", "Sweeps"), panel(textTable("Sweeps", columns, rows)));
}

function showComparisons() {
  if (!comparisons.length) return;
  const rows = comparisons.map((one) => [linked(one.name, one.page), one.systems.join(", "), one.about, moment(one.written)]);
  const columns = ["Comparison", "Systems", "Studies", "Written"];
  section("comparisons").append(
    heading("comparisons", "Comparisons"),
    panel(textTable("Comparisons", columns, rows)),
  );
}

function showUnreadable() {
  if (!unreadable.length) return;
  const rows = unreadable.map(({ name, reason }) => [name, h("span.why", reason)]);
  section("unreadable").append(
    heading("unreadable", "Folders that cannot be read"),
    panel(textTable("Unreadable", ["Folder", "Reason"], rows)),
  );
}

showMasthead();
showRuns();
showSweeps();
showComparisons();
showUnreadable();
showFooter();
checkNavigation();
