// The names, columns and tables of scores.
const LAST_COLUMN = 100;
// The facts that metrics state about their scores; scores of a metric that no longer exists are missing.
const SPECS = Object.fromEntries((data.score_specs || []).map((spec) => [spec.name, spec]));
const SPLITS = { val: "Validation", test: "Test", train: "Training" };

function columnOf(key) {
  return key in SPECS ? SPECS[key].column : LAST_COLUMN;
}

function inTable(key) {
  return columnOf(key) !== null;
}

// The scores that a table shows, each once, in the order of their columns.
function tableScores(keys) {
  return [...new Set(keys)].filter(inTable).sort((one, other) => columnOf(one) - columnOf(other));
}

function metricName(key) {
  return key in SPECS ? SPECS[key].title : (key.charAt(0).toUpperCase() + key.slice(1)).replace(/_/g, " ");
}

function splitName(key) {
  return SPLITS[key] || key;
}

function lowerIsBetter(key) {
  return key in SPECS && !SPECS[key].higher_is_better;
}

// A difference in a score, positive if it is an improvement.
function gain(key, value) {
  return lowerIsBetter(key) ? -value : value;
}

// Whether two intervals have no value in common. Without intervals, two values count as equal.
function areApart(one, other) {
  return isNumber(one?.low) && isNumber(other?.low) && (one.low > other.high || other.low > one.high);
}

// The system with the best value of a score, if it differs from all others beyond noise; else null.
// `values` are by system; differ(key, one, other) says whether two systems differ.
function clearBest(key, values, differ) {
  const names = Object.keys(values).filter((name) => isNumber(values[name]));
  names.sort((one, other) => gain(key, values[other] - values[one]));
  const [first, ...others] = names;
  return others.length && others.every((other) => differ(key, first, other)) ? first : null;
}

// The scores of one report.
function scoresLine(scores, isShown = () => true) {
  const shown = Object.entries(scores || {}).filter(([key]) => isShown(key));
  const texts = shown.map(([key, value]) => `${metricName(key)} ${score(value)}`);
  return texts.length ? h("p.scores-line", texts.join(" · ")) : "";
}

// ------------------------------------------------------------------------------------------------------- score tables
// A table of `values` by system and score. `intervals` are { value, low, high } by system and score, `labels` the name
// and the meaning of each system. `foot` makes rows at the end from the keys of the columns. A score is bold if it is
// the best and differ(key, system, other) is true for all others; without `differ`, the intervals decide.
function scoreTable(values, { intervals = {}, labels = {}, foot = () => [], differ = null } = {}) {
  const byIntervals = (key, one, other) => areApart(intervals[one]?.[key], intervals[other]?.[key]);
  const names = Object.keys(values);
  const keys = tableScores(names.flatMap((name) => Object.keys(values[name])));
  const columns = keys.map((key) => ({
    key,
    best: clearBest(key, Object.fromEntries(names.map((name) => [name, values[name][key]])), differ || byIntervals),
    span: spanOf(names.map((name) => intervals[name]?.[key])),
  }));
  const rows = names.map((name) => {
    const [label, meaning] = labels[name] || [name, ""];
    const cells = columns.map(({ key, best, span }) =>
      scoreCell(values[name][key], intervals[name]?.[key], name === best, span),
    );
    const attributes = { class: name === "model" ? "model" : null };
    return h("tr", attributes, h("th", { scope: "row" }, label, h("span.small", meaning)), ...cells);
  });
  const table = h("table.scores", tableHead(["Reports", ...keys.map(metricName)]), h("tbody", ...rows));
  const below = foot(keys);
  if (below.length) table.append(h("tfoot", ...below));
  return scrolling("Score table", table);
}

function scoreCell(value, interval, isBest, span) {
  return h("td", { class: isBest ? "best" : null }, score(value), intervalLine(interval, span));
}

// A difference in a score, with its paired interval and test if there are any.
function difference(key, exact, tested) {
  const value = rounded(exact);
  const noise = tested?.within_noise;
  const prefix = value > 0 ? "▲ +" : value < 0 ? "▼ −" : "± ";
  const kind = noise || value === 0 ? "soft" : gain(key, value) > 0 ? "ahead" : "behind";
  const main = h("span", { class: kind }, prefix + Math.abs(value).toFixed(3));
  if (!tested) return [main];
  const verdict = noise ? "within noise" : `p ${probability(tested.p)}`;
  return [main, h("span.ends", range(tested), h("br"), verdict)];
}

// ---------------------------------------------------------------------------------------------------------- intervals
// The lowest and the highest end of some intervals; null if there are none.
function spanOf(intervals) {
  const drawn = intervals.filter((one) => isNumber(one?.low));
  return drawn.length ? [Math.min(...drawn.map(({ low }) => low)), Math.max(...drawn.map(({ high }) => high))] : null;
}

// An interval drawn as a line, with its value as a dot, on the scale of its column, and written as numbers below.
function intervalLine(interval, span) {
  if (!isNumber(interval?.low) || !span) return "";
  const width = 64;
  const x = (value) => 3 + ((value - span[0]) / (span[1] - span[0] || 1)) * (width - 6);
  const line = s(
    "svg.interval",
    { width, height: 9, viewBox: `0 0 ${width} 9`, "aria-hidden": "true" },
    s("line.grid", { x1: 0, x2: width, y1: 4.5, y2: 4.5 }),
    s("line.between", { x1: x(interval.low), x2: x(interval.high), y1: 4.5, y2: 4.5 }),
    s("circle", { cx: x(interval.value), cy: 4.5, r: 2.8 }),
  );
  return h("span.ends", line, h("br"), range(interval));
}

// A note on how intervals were computed, and on scores without one. `keys` are the scores of the model.
function intervalNote(intervals, keys) {
  const drawn = Object.values(intervals || {}).find((ofSystem) => Object.keys(ofSystem).length) || {};
  const shown = tableScores(keys);
  const parts = [];
  if (Object.keys(drawn).length) {
    const draws = grouped(Math.max(...Object.values(drawn).map((one) => one.draws)));
    parts.push(`Below each score is its 95 % interval, from ${draws} resamples of the studies; `);
    parts.push("the intervals of a column share one scale. Bold: the best score, if it differs from all others ");
    parts.push("beyond noise.");
    const fixed = shown.filter((key) => key in drawn && SPECS[key]?.interval_note);
    parts.push(...fixed.map((key) => ` ${SPECS[key].interval_note}.`));
  }
  const without = intervals ? shown.filter((key) => !(key in drawn)).map(metricName) : [];
  if (without.length) {
    parts.push(` No interval: ${without.join(", ")}; `);
    parts.push("such a score is not computed from sums over studies, so studies cannot be resampled.");
  }
  return parts.length ? note(parts.join("").trim()) : "";
}

// --------------------------------------------------------------------------------------------------------- signatures
// The recipe of the texts and the signature of each metric. In format 1 of metrics.json a signature is a text.
function signatureList(signatures, recipe) {
  const all = Object.entries({ ...(recipe ? { recipe } : {}), ...(signatures || {}) });
  if (!all.length) return "";
  const parts = (one) => Object.entries(one).map(([name, value]) => `${name} ${value}`);
  const text = (one) => (typeof one === "string" ? one : parts(one).join(", "));
  return h(
    "div.signatures",
    "How the scores were computed. Two scores can be compared only if their entries here are equal.",
    h("ul", ...all.map(([name, one]) => h("li", `${name}: `, h("code", text(one))))),
  );
}
