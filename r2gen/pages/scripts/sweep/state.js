// The runs of a sweep, and what the reader has chosen to see of them.
const { rows, columns } = data;
const splits = Object.keys(data.splits);
const COSTS = {
  device_seconds: "Device seconds",
  total_seconds: "Total seconds",
  peak_memory_gib: "Peak memory, GiB",
  trainable: "Trainable parameters",
  parameters: "Parameters",
};
const state = {
  split: splits.includes("test") ? "test" : splits[0],
  joined: false, // means over seeds instead of runs
  by: columns.find((column) => column !== "seed") || columns[0] || "", // the column that decides the colours
  hidden: {}, // by column the values whose runs are hidden
  wanted: "",
  sort: null, // a score, "choice:COLUMN" or "cost:NAME"; null: the chosen score
  descending: true,
  cost: data.costs[0],
  log: false,
  study: 0,
  allReports: false,
};
state.score = firstScore();
const views = []; // functions that draw a part of the page from `state`

function refresh() {
  views.forEach((view) => view());
}

function set(key) {
  return (value) => {
    state[key] = value;
    refresh();
  };
}

function scoresOfSplit() {
  return data.splits[state.split] || [];
}

function firstScore() {
  const scores = scoresOfSplit();
  return ["cider", "bleu_4"].find((key) => scores.includes(key)) || scores[0];
}

// ---------------------------------------------------------------------------------------------------------------- rows
const meanRows = data.joined.map((one) => ({
  ...one,
  name: choicesText(one.choices) || "all",
  state: "done",
  cost: meanCost(one.jobs),
  note: `seeds ${one.seeds.join(", ")}`,
}));

function choicesText(choices) {
  return Object.entries(choices)
    .map(([column, value]) => `${column}=${value}`)
    .join(" ");
}

function meanCost(names) {
  const costs = rows.filter((row) => names.includes(row.name)).map((row) => row.cost);
  const mean = (values) => (values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null);
  return Object.fromEntries(data.costs.map((name) => [name, mean(costs.map((cost) => cost[name]).filter(isNumber))]));
}

function shownRows() {
  const isHidden = (row) => columns.some((column) => state.hidden[column]?.has(row.choices[column]));
  return rows.filter((row) => !isHidden(row) && `${row.name} ${row.reason || ""}`.toLowerCase().includes(state.wanted));
}

// The rows of score tables and plots: runs, or means over their seeds.
function scoredRows() {
  const runs = new Set(shownRows().map((row) => row.name));
  return state.joined ? meanRows.filter((row) => row.jobs.some((name) => runs.has(name))) : shownRows();
}

// The baselines of the runs shown: rows with `baseline`, and scores like those of runs.
function baselineRows() {
  const shown = new Set(scoredRows().flatMap((row) => row.jobs || [row.name]));
  return data.baselines.filter((one) => one.jobs.some((name) => shown.has(name)));
}

// Whether a run is better than its constant report beyond noise: by its paired test, or else by the two intervals.
function beatsConstant(row, key) {
  const tested = row.margins?.[state.split]?.[key];
  if (tested) return !tested.within_noise && gain(key, tested.value) > 0;
  const names = row.jobs || [row.name];
  const constants = data.baselines.filter((one) => one.name === "constant" && one.jobs.some((job) => names.includes(job)));
  return constants.every((constant) => {
    const [own, other] = [scoreOf(row, key), scoreOf(constant, key)];
    return !other || (areApart(own, other) && gain(key, own.value - other.value) > 0);
  });
}

// The run that is best in a score beyond noise, and better than its constant report; null if there is none.
function bestRow(shown, key) {
  const scored = Object.fromEntries([...shown, ...baselineRows()].map((row, at) => [at, scoreOf(row, key)]));
  const values = Object.fromEntries(Object.entries(scored).map(([at, one]) => [at, one?.value]));
  const best = shown[clearBest(key, values, (_, one, other) => areApart(scored[one], scored[other]))];
  return best && beatsConstant(best, key) ? best : null;
}

function shownColumns() {
  return state.joined ? columns.filter((column) => column !== "seed") : columns;
}

function scoreOf(row, key = state.score) {
  return row.scores[state.split]?.[key] || null;
}

function valuesOf(column) {
  const values = [...new Set(rows.map((row) => row.choices[column]))];
  const areNumbers = values.every((value) => value.trim() !== "" && Number.isFinite(Number(value)));
  const byNumber = (one, other) => Number(one) - Number(other) || compareNaturally(one, other);
  return values.sort(areNumbers ? byNumber : compareNaturally);
}

function sortValue(row, key) {
  const [kind, name] = key.split(":");
  if (kind === "choice") return valuesOf(name).indexOf(row.choices[name]);
  return kind === "cost" ? row.cost[name] : scoreOf(row, key)?.value;
}

// The rows in the chosen order; those without a value come last.
function sorted(all) {
  const key = state.sort || state.score;
  const value = (row) => (key ? sortValue(row, key) : null) ?? null;
  const [known, rest] = [all.filter((row) => value(row) !== null), all.filter((row) => value(row) === null)];
  known.sort((one, other) => (state.descending ? -1 : 1) * (value(one) - value(other)));
  return [...known, ...rest];
}

// --------------------------------------------------------------------------------------------------------------- texts
function costText(key, value) {
  if (!isNumber(value)) return "–";
  return key === "trainable" || key === "parameters" ? amount(value) : reading(value);
}

function scoreSummary(row) {
  const one = scoreOf(row);
  return one ? `${row.name}: ${metricName(state.score)} ${score(one.value)} (${range(one)})` : row.name;
}

function costSummary(row) {
  return `${scoreSummary(row)}, ${COSTS[state.cost].toLowerCase()} ${costText(state.cost, row.cost[state.cost])}`;
}

// ------------------------------------------------------------------------------------------------------------- colours
function colour(row) {
  const index = state.by in row.choices ? valuesOf(state.by).indexOf(row.choices[state.by]) % 8 : 5;
  return `var(--c${index})`;
}

function dot(row) {
  const circle = s("circle", { cx: 5, cy: 5, r: 4, fill: colour(row) });
  return s("svg", { width: 10, height: 10, viewBox: "0 0 10 10" }, circle);
}

function colourKey() {
  const key = h("p.key");
  const sample = (value) => h("span", dot({ choices: { [state.by]: value } }), ` ${state.by}=${value}`);
  views.push(() => key.replaceChildren(...(columns.length ? valuesOf(state.by).map(sample) : [])));
  return key;
}
