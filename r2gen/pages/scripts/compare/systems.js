// The systems compared: the head of the page, and what its plots and tables share.
const { systems } = data;
const names = systems.map(({ name }) => name);
const baselines = new Set(systems.filter(({ kind }) => kind === "null").map(({ name }) => name));

function showMasthead() {
  const compared = systems.filter(({ name }) => !baselines.has(name));
  const runs = compared.filter(({ kind }) => kind === "run").map(({ about }) => about);
  const keys = [...new Set(runs.flatMap((about) => Object.keys(about)))];
  const shared = runs.length > 1 ? keys.filter((key) => runs.every((about) => about[key] === runs[0][key])) : [];
  const text = (about, chosen) => chosen.map((key) => `${key} ${about[key]}`).join(", ");
  const ownFacts = ({ name, kind, source, about }) => {
    const own = Object.keys(about).filter((key) => !shared.includes(key));
    return fact(name, text(about, own) || (kind === "file" ? "reports from a file" : kind), source);
  };
  const studies = `${splitName(data.split)} split, ${plural(data.studies, "study", "studies")}`;
  byId("masthead").append(
    h("p.eyebrow", "R2Gen · comparison"),
    h("div.name", h("h1", data.title)),
    h("p.soft.small", `${studies}, references ${data.references}. Page written ${moment(data.written)}.`),
    shared.length ? h("p.soft.small", `Shared by all runs: ${text(runs[0], shared)}.`) : "",
    h("dl.facts.wide", ...compared.map(ownFacts)),
    pageLinks(data.links),
    navigationBar({
      scores: "Scores",
      differences: "Differences",
      findings: "Findings",
      strata: "Subgroups",
      studies: "Studies",
    }),
  );
}

// The systems that a plot shows at first: all but most baselines.
function shownAtFirst() {
  return new Set(names.filter((name) => !baselines.has(name) || name === "constant"));
}

function keyOfSystems(shown, change) {
  return systemKey(
    systems.map(({ name }) => ({ name, hollow: baselines.has(name) })),
    shown,
    change,
  );
}

// The intervals by system as values of a dot plot, those of the shown systems.
function plotValues(intervals, shown) {
  const all = names.map((name, index) => ({ name, index, interval: intervals[name] }));
  return all
    .filter(({ name, interval }) => shown.has(name) && interval)
    .map(({ name, index, interval }) => {
      const title = `${name}: ${score(interval.value)}, 95 % ${range(interval)}`;
      return { ...interval, index, hollow: baselines.has(name), title };
    });
}

// The values of intervals by system and score.
function valuesOf(intervals) {
  const values = (scores) => Object.fromEntries(Object.entries(scores).map(([key, one]) => [key, one.value]));
  return Object.fromEntries(Object.entries(intervals).map(([system, scores]) => [system, values(scores)]));
}
