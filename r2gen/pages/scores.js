// The names, columns and tables of scores.
// The facts that metrics state about their scores; scores of a metric that no longer exists are missing.
const SPECS = Object.fromEntries((data.score_specs || []).map((spec) => [spec.name, spec]));
const LAST_COLUMN = 100;
function columnOf(key) { return key in SPECS ? SPECS[key].column : LAST_COLUMN; }
function inTable(key) { return columnOf(key) !== null; }
// The scores that a table shows, each once, in the order of their columns.
function tableScores(keys) { return [...new Set(keys)].filter(inTable).sort((one, other) => columnOf(one) - columnOf(other)); }
function metricName(key) { return key in SPECS ? SPECS[key].title : (key.charAt(0).toUpperCase() + key.slice(1)).replace(/_/g, " "); }
function lowerIsBetter(key) { return key in SPECS && !SPECS[key].higher_is_better; }
// A difference in a score, positive if it is an improvement.
function gain(key, value) { return lowerIsBetter(key) ? -value : value; }
function bestOf(key, values) { const numbers = values.filter(isNumber); return lowerIsBetter(key) ? Math.min(...numbers) : Math.max(...numbers); }
const SPLITS = { val: "Validation", test: "Test", train: "Training" };
function splitName(key) { return SPLITS[key] || key; }
const SYSTEMS = {
  model: ["Model", "reports of this run's model"],
  constant: ["Constant report", "baseline: one training report for all studies"],
  shuffled: ["Shuffled images", "baseline: the model's report for another study"],
  random: ["Random report", "baseline: a random training report for each study"],
  nearest: ["Nearest image", "baseline: the training report of the most similar images"],
};
// A table of values by system and score, with `intervals` { value, low, high } likewise, and `margins` of model - constant by score.
function scoreTable(systems, intervals = {}, margins = null, labels = SYSTEMS) {
  const names = Object.keys(systems), keys = tableScores(names.flatMap((name) => Object.keys(systems[name])));
  const best = Object.fromEntries(keys.map((key) => [key, bestOf(key, names.map((name) => systems[name][key]))]));
  const isBest = (value, key) => isNumber(value) && names.length > 1 && value.toFixed(3) === best[key].toFixed(3);
  const ends = Object.fromEntries(keys.map((key) => [key, spanOf(names.map((name) => (intervals[name] || {})[key]))]));
  const rows = names.map((name) => {
    const [label, meaning] = labels[name] || [name, ""];
    return h("tr", { class: name === "model" ? "model" : null },
      h("th", { scope: "row" }, label, h("span", { class: "small" }, meaning)),
      ...keys.map((key) => h("td", { class: isBest(systems[name][key], key) ? "best" : null }, score(systems[name][key]), intervalLine((intervals[name] || {})[key], ends[key]))));
  });
  return scrolling("Score table", h("table", { class: "scores" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Reports"), ...keys.map((key) => h("th", { scope: "col" }, metricName(key))))),
    h("tbody", {}, ...rows), systems.model && systems.constant ? h("tfoot", {}, marginRow(systems, margins, keys)) : ""));
}
function margin(systems, key) {
  const difference = systems.model[key] - systems.constant[key];
  return isNumber(difference) ? Math.round(difference * 1000) / 1000 : null;
}
function marginRow(systems, margins, keys) {
  return h("tr", {}, h("th", { scope: "row" }, "Margin", h("span", { class: "small" }, "model minus constant report")), ...keys.map((key) => {
    const value = margin(systems, key);
    return value === null ? h("td", {}, "–") : h("td", {}, difference(key, value, (margins || {})[key]));
  }));
}
// A difference in a score, with its paired interval and test if there are any.
function difference(key, value, tested) {
  const prefix = value > 0 ? "▲ +" : value < 0 ? "▼ −" : "± ", noise = tested && tested.within_noise;
  return [h("span", { class: noise || value === 0 ? "soft" : gain(key, value) > 0 ? "ahead" : "behind" }, prefix + Math.abs(value).toFixed(3)),
    tested ? h("span", { class: "ends" }, range(tested), h("br", {}), noise ? "within noise" : `p ${probability(tested.p)}`) : ""];
}
function probability(p) { return p < .001 ? "< .001" : p.toFixed(3).replace(/^0/, ""); }
function range({ low, high }) { return isNumber(low) ? `${signed(low)} to ${signed(high)}` : "–"; }
function signed(value) { return (value < 0 ? "−" : "") + Math.abs(value).toFixed(3).replace(/^0/, ""); }
// The lowest and the highest end of some intervals; null if there are none.
function spanOf(intervals) {
  const known = intervals.filter((one) => one && isNumber(one.low));
  return known.length ? [Math.min(...known.map(({ low }) => low)), Math.max(...known.map(({ high }) => high))] : null;
}
// An interval drawn as a line, with its value as a dot, on the scale of its column, and written as numbers below.
function intervalLine(interval, span) {
  if (!interval || !isNumber(interval.low) || !span) return "";
  const wide = 64, at = (value) => 3 + (value - span[0]) / (span[1] - span[0] || 1) * (wide - 6);
  return h("span", { class: "ends" }, s("svg", { class: "interval", width: wide, height: 9, viewBox: `0 0 ${wide} 9`, "aria-hidden": "true" },
    s("line", { class: "grid", x1: 0, x2: wide, y1: 4.5, y2: 4.5 }), s("line", { class: "between", x1: at(interval.low), x2: at(interval.high), y1: 4.5, y2: 4.5 }),
    s("circle", { cx: at(interval.value), cy: 4.5, r: 2.8 })), h("br", {}), range(interval));
}
// A note on how intervals were computed, and on scores without one. `keys` are the scores of the model.
function intervalNote(intervals, keys) {
  const known = Object.values(intervals || {}).find((ofSystem) => Object.keys(ofSystem).length) || {}, shown = tableScores(keys);
  const notes = shown.filter((key) => key in known && SPECS[key]?.interval_note).map((key) => ` ${SPECS[key].interval_note}.`);
  const without = intervals ? shown.filter((key) => !(key in known)).map(metricName) : [];
  const parts = Object.keys(known).length ? [`Below each score is its 95 % interval, from ${grouped(Math.max(...Object.values(known).map((one) => one.draws)))} resamples of the studies; the intervals of a column share one scale.`, ...notes] : [];
  if (without.length) parts.push(` No interval: ${without.join(", ")}; ${NO_SUMS}.`);
  return parts.length ? h("p", { class: "small soft" }, parts.join("").trim()) : "";
}
const NO_SUMS = "such a score is not computed from sums over studies, so studies cannot be resampled";
// The recipe of the texts and the signature of each metric. In format 1 of metrics.json a signature is a text.
function signatureList(signatures, recipe) {
  const found = Object.entries({ ...(recipe ? { recipe } : {}), ...(signatures || {}) });
  const text = (one) => typeof one === "string" ? one : Object.entries(one).map(([name, value]) => `${name} ${value}`).join(", ");
  return found.length ? h("div", { class: "signatures" }, "How the scores were computed. Two scores can be compared only if their entries here are equal.",
    h("ul", {}, ...found.map(([name, one]) => h("li", {}, `${name}: `, h("code", {}, text(one)))))) : "";
}
