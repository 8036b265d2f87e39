// How scores are named and drawn.
// Of findings the table has F1 alone; precision and recall stand under "Each finding".
function inTable(key) { return !/^[a-z]+_(precision|recall)_(micro|macro)_/.test(key); }
const METRICS = { rouge_l: "ROUGE-L", meteor: "METEOR", cider: "CIDEr", findings_f1: "Findings F1", findings_f1_normal: "F1 of normal", sacrebleu: "sacreBLEU",
  rouge_score_1: "rouge-score 1", rouge_score_2: "rouge-score 2", rouge_score_l: "rouge-score L", radgraph_simple: "RadGraph, simple", radgraph_partial: "RadGraph, partial", radgraph_complete: "RadGraph, complete" };
const LABELERS = { findings: "Findings", chexbert: "CheXbert" };
function metricName(key) {
  if (METRICS[key]) return METRICS[key];
  const bleu = /^bleu_?(\d)$/.exec(key);
  const labelled = /^(findings|chexbert)_f1_(micro|macro)_(\d+)$/.exec(key);
  if (labelled) return `${LABELERS[labelled[1]]} F1, ${labelled[2]} of ${labelled[3]}`;
  return bleu ? `BLEU-${bleu[1]}` : (key.charAt(0).toUpperCase() + key.slice(1)).replace(/_/g, " ");
}
const SPLITS = { val: "Validation", test: "Test", train: "Training" };
function splitName(key) { return SPLITS[key] || key; }
const SYSTEMS = {
  model: ["Model", "reports this run wrote from the images"],
  constant: ["Constant report", "one constant report, images never seen"],
  shuffled: ["Shuffled images", "the model's reports on another study's images"],
  random: ["Random report", "a training report drawn for each study, images never seen"],
  nearest: ["Nearest image", "the training report of the images that look most alike, found without a model"],
};
// `systems`: by system and score the value; `intervals` likewise their { low, high }, `margins` those of model - constant.
function scoreTable(systems, intervals = {}, margins = null, labels = SYSTEMS) {
  const names = Object.keys(systems), keys = [...new Set(names.flatMap((name) => Object.keys(systems[name])))].filter(inTable);
  const best = Object.fromEntries(keys.map((key) => [key, Math.max(...names.map((name) => systems[name][key]).filter(isNumber))]));
  const isBest = (value, key) => isNumber(value) && names.length > 1 && value.toFixed(3) === best[key].toFixed(3);
  const ends = Object.fromEntries(keys.map((key) => [key, spanOf(names.map((name) => (intervals[name] || {})[key]))]));
  const rows = names.map((name) => {
    const [label, meaning] = labels[name] || [name, ""];
    return h("tr", { class: name === "model" ? "model" : null },
      h("th", { scope: "row" }, label, h("span", { class: "small" }, meaning)),
      ...keys.map((key) => h("td", { class: isBest(systems[name][key], key) ? "best" : null }, score(systems[name][key]), intervalMark((intervals[name] || {})[key], ends[key]))));
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
    return value === null ? h("td", {}, "–") : h("td", {}, difference(value, (margins || {})[key]));
  }));
}
// A difference with its paired interval and test, where there are some.
function difference(value, tested) {
  const sign = value > 0 ? "▲ +" : value < 0 ? "▼ −" : "± ", noise = tested && tested.within_noise;
  return [h("span", { class: noise || value === 0 ? "soft" : value > 0 ? "ahead" : "behind" }, sign + Math.abs(value).toFixed(3)),
    tested ? h("span", { class: "ends" }, range(tested), h("br", {}), noise ? "within noise" : `p ${probability(tested.p)}`) : ""];
}
function probability(p) { return p < .001 ? "< .001" : p.toFixed(3).replace(/^0/, ""); }
function range({ low, high }) { return isNumber(low) ? `${signed(low)} to ${signed(high)}` : "–"; }
function signed(value) { return (value < 0 ? "−" : "") + Math.abs(value).toFixed(3).replace(/^0/, ""); }
// The common scale of some intervals: [lowest, highest], null where there is none.
function spanOf(intervals) {
  const known = intervals.filter((one) => one && isNumber(one.low));
  return known.length ? [Math.min(...known.map(({ low }) => low)), Math.max(...known.map(({ high }) => high))] : null;
}
// An interval as a line with its value as a dot, on a scale that all marks of a column share, and its ends in digits.
function intervalMark(interval, span) {
  if (!interval || !isNumber(interval.low) || !span) return "";
  const wide = 64, at = (value) => 3 + (value - span[0]) / (span[1] - span[0] || 1) * (wide - 6);
  return h("span", { class: "ends" }, s("svg", { class: "mark", width: wide, height: 9, viewBox: `0 0 ${wide} 9`, "aria-hidden": "true" },
    s("line", { class: "grid", x1: 0, x2: wide, y1: 4.5, y2: 4.5 }), s("line", { class: "between", x1: at(interval.low), x2: at(interval.high), y1: 4.5, y2: 4.5 }),
    s("circle", { cx: at(interval.value), cy: 4.5, r: 2.8 })), h("br", {}), range(interval));
}
function intervalNote(intervals) {
  const known = Object.values(intervals || {}).find((ofSystem) => Object.keys(ofSystem).length);
  if (!known) return "";
  const draws = Math.max(...Object.values(known).map((one) => one.draws));
  return h("p", { class: "small soft" }, `Under each score its 95 % interval: ${grouped(draws)} resamples of the studies; the lines of a column share one scale.`
    + ("cider" in known ? " CIDEr's document frequencies stay those of all references." : ""));
}
// Flat names and values: the recipe of the texts, then each metric's signature. Before format 2 of metrics.json a text.
function signatureList(signatures, recipe) {
  const found = Object.entries({ ...(recipe ? { recipe } : {}), ...(signatures || {}) });
  const told = (one) => typeof one === "string" ? one : Object.entries(one).map(([name, value]) => `${name} ${value}`).join(", ");
  return found.length ? h("div", { class: "signatures" }, "How each score is computed. Scores compare only where these agree.",
    h("ul", {}, ...found.map(([name, one]) => h("li", {}, `${name}: `, h("code", {}, told(one)))))) : "";
}
