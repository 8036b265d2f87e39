// The page of one run (r2gen/pages/run.py).
const run = data.run;

// -------------------------------------------------------------------------------------------------------- masthead
const STATUS = {
  running: ["●", "running", "The run was in progress when this page was written."],
  finished: ["✓", "finished", "The run is complete."],
  stopped: ["❚❚", "stopped", "The run was interrupted after a checkpoint. The same command resumes it."],
  failed: ["✕", "failed", "The run ended with an error."],
};
function hardware() {
  const machine = run.hardware || {}, gpus = machine.gpus || [];
  const names = [...new Set(gpus)].map((name) => {
    const count = gpus.filter((other) => other === name).length;
    return count > 1 ? `${count} × ${name}` : String(name);
  });
  const rest = [machine.cpu, isNumber(machine.memory_gib) ? `${Math.round(machine.memory_gib)} GiB` : null].filter(Boolean).join(", ");
  return names.length ? [names.join(", "), rest] : [rest || null, rest ? "no GPU" : null];
}
function progress() {
  const last = data.curves.steps[data.curves.steps.length - 1];
  if (!last) return [null, null];
  const note = [isNumber(last.epoch) ? `epoch ${last.epoch.toFixed(2)}` : null, `loss ${reading(last.loss)}`,
    isNumber(last.samples_per_s) ? `${reading(last.samples_per_s)} samples/s` : null].filter(Boolean).join(" · ");
  return [`step ${grouped(last.step)}`, note];
}
function staleness() {
  const hours = (Date.now() - Date.parse(data.written)) / 3.6e6;
  if (run.status !== "running" || !(hours > 2)) return null;
  const ago = hours < 48 ? `${Math.round(hours)} hours` : `${Math.round(hours / 24)} days`;
  return h("p", { class: "reason running" }, `This page was written ${ago} ago, while the run was in progress. It is rewritten at each validation: ` +
    "the run may have been killed since, or this copy of the page is old.");
}
function showMasthead() {
  const [symbol, word, sentence] = STATUS[run.status] || ["?", String(run.status), ""];
  const choices = data.choices, parameters = run.parameters || [];
  const total = parameters.reduce((sum, row) => sum + row.total, 0), trainable = parameters.reduce((sum, row) => sum + row.trainable, 0);
  const seconds = Object.entries(run.seconds || {}).filter(([, value]) => isNumber(value));
  const tune = [choices.tune ? `encoder ${choices.tune}` : null, choices["tune/lm"] ? `LM ${choices["tune/lm"]}` : null].filter(Boolean).join(", ");
  byId("masthead").append(
    h("p", { class: "eyebrow" }, `R2Gen · ${run.task || "run"}`),
    h("div", { class: "name" }, h("h1", {}, run.name || data.folder),
      h("span", { class: `badge ${STATUS[run.status] ? run.status : "stopped"}`, title: sentence }, h("span", { "aria-hidden": "true" }, symbol), word)),
    h("p", { class: "soft small" }, `${sentence} Page written ${moment(data.written)}.`),
    run.reason ? h("p", { class: `reason ${run.status}` }, run.reason) : "",
    staleness() || "",
    run.command ? h("div", { class: "command" }, h("code", { tabindex: "0" }, run.command), copyButton(run.command)) : "",
    h("dl", { class: "facts" },
      fact("Language model", choices.lm), fact("Image encoder", choices.vision), fact("Data", choices.data),
      fact("Tuning", tune), fact("Quantisation", choices.quant), fact("Generation", choices.generation),
      fact("Trainable", total ? amount(trainable) : null, total ? `of ${amount(total)} parameters (${share(trainable, total)})` : null),
      fact("Progress", ...progress()), fact("Hardware", ...hardware()),
      fact("Started", moment(run.started), run.finished ? `ended ${moment(run.finished)}` : null),
      fact("Peak memory", isNumber(run.peak_memory_gib) ? `${reading(run.peak_memory_gib)} GiB` : null, "highest of all ranks"),
      fact("Duration", seconds.length ? duration(seconds.reduce((sum, [, value]) => sum + value, 0)) : null,
        seconds.map(([name, value]) => `${name} ${duration(value)}`).join(", "))),
    navigation([["scores", "Scores"], ["curves", "Curves"], ["studies", "Studies"], ["details", "Run and config"]]));
}

// ---------------------------------------------------------------------------------------------------------- scores
function verdict(systems, margins) {
  if (!systems.model || !systems.constant) return h("p", { class: "verdict small soft" }, "The baselines are scored when the run is evaluated.");
  const keys = Object.keys(systems.model).filter((key) => inTable(key) && margin(systems, key) !== null);
  const ahead = keys.filter((key) => gain(key, margin(systems, key)) > 0), tested = ahead.filter((key) => margins && margins[key]);
  const sure = tested.filter((key) => !margins[key].within_noise).length;
  return h("p", { class: "verdict small" }, h("strong", {}, ahead.length ? `The model scores higher than the constant report on ${ahead.length} of ${plural(keys.length, "score", "scores")}${tested.length ? `, beyond noise on ${sure}` : ""}.` :
    "The model does not score higher than the constant report on any score."), " A margin near zero means that the model gained little from the images. ",
    margins ? "Beyond noise: p < .05 in a paired randomisation test of that score alone." : "Margins are plain differences, without an interval.");
}
function references(found) {
  if (!found) return "";
  const shown = (value) => isNumber(value) ? value.toPrecision(4) : "too large to represent";
  return h("p", { class: "small soft" }, `Perplexity of the references: ${shown(found.perplexity_per_token)} per token, ${shown(found.perplexity_per_character)} per character, `
    + `${shown(found.perplexity_per_word)} per word; ${shown(found.bits_per_character)} bits per character. Between models with different tokenizers, compare the values per character or per word.`
    + (found.altered ? ` The tokenizer changes the text of ${plural(found.altered, "reference", "references")}.` : ""));
}
function wording(found, studies) {
  if (!found) return "";
  const { model, references: own } = found, percent = (rate) => `${(100 * rate).toFixed(1)}\u00a0%`;
  return h("p", { class: "small soft" }, `The model wrote ${plural(model.distinct, "different report", "different reports")} for ${plural(studies, "study", "studies")} (references: ${grouped(own.distinct)}). `
    + `${percent(model.copied_rate)} of its reports are word-for-word copies of training reports (references: ${percent(own.copied_rate)}). Mean length: ${model.mean_words.toFixed(1)} words (references: ${own.mean_words.toFixed(1)}). `
    + `Repeated 4-grams within a report: ${percent(model.repeated_rate)} (references: ${percent(own.repeated_rate)}).`);
}
function nearestSearch(found) {
  return !found || found.compared === found.train ? "" : h("p", { class: "small soft" }, `The nearest-image baseline was searched in ${grouped(found.compared)} of ${grouped(found.train)} training studies.`);
}
function meanRows(labeler, scores) {
  const rates = ["precision", "recall", "f1"];
  return ["micro_14", "macro_14", "micro_5", "macro_5"].filter((mean) => rates.some((rate) => `${labeler}_${rate}_${mean}` in scores)).map((mean) =>
    h("tr", {}, h("th", { scope: "row" }, `${mean.startsWith("micro") ? "Micro" : "Macro"} average of ${mean.slice(6)} findings`), h("td", {}), h("td", {}), ...rates.map((rate) => h("td", {}, score(scores[`${labeler}_${rate}_${mean}`])))));
}
// A table for each metric that reads findings from the texts.
function findingTables(details, scores) {
  return Object.entries((details || {}).model || {}).map(([labeler, findings]) => h("details", {}, h("summary", {}, labeler === "findings" ? "Each finding" : `Each finding (${labeler})`),
    h("p", { class: "small soft" }, "Support: references with the finding. Stated: reports of the model with the finding. Averages leave out findings that no reference has."),
    scrolling("Each finding", h("table", {},
      h("thead", {}, h("tr", {}, ...["Finding", "Support", "Stated", "Precision", "Recall", "F1"].map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, ...Object.entries(findings).map(([name, row]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, grouped(row.support)), h("td", {}, grouped(row.stated)),
        h("td", {}, score(row.precision)), h("td", {}, score(row.recall)), h("td", {}, score(row.f1))))),
      h("tfoot", {}, ...meanRows(labeler, scores))))));
}
function lastValidation() {
  const last = data.curves.validations[data.curves.validations.length - 1];
  if (!last) return [empty("No scores yet: the run has not reached its first validation.")];
  return [h("div", { class: "panel" }, h("h3", {}, `${splitName(last.split)}, at step ${grouped(last.step)}`),
    scoreTable({ model: last.scores || {} }), h("p", { class: "small soft" }, "Computed during training. The baselines are scored when the run is evaluated."))];
}
function scorePanel(split, about, { systems, intervals, margins }, ...below) {
  return h("div", { class: "panel" }, h("div", { class: "heading" }, h("h3", {}, splitName(split)), h("span", { class: "soft small" }, about)),
    scoreTable(systems || {}, intervals || {}, margins), verdict(systems || {}, margins), intervalNote(intervals, Object.keys((systems || {}).model || {})), ...below);
}
function showScores() {
  const metrics = data.metrics, host = section("scores");
  if (!metrics) { host.append(heading("scores", "Scores"), ...lastValidation()); return; }
  host.append(heading("scores", "Scores", h("span", { class: "soft small" }, `generation ${metrics.generation || "–"}, checkpoint ${metrics.checkpoint || "–"}`)));
  for (const [split, entry] of Object.entries(metrics.splits || {})) {
    const counted = plural(entry.studies, "study", "studies"), systems = entry.systems || {};
    host.append(scorePanel(split, counted, entry, nearestSearch(entry.nearest), wording(entry.wording, entry.studies), references(entry.likelihood), ...findingTables(entry.details, systems.model || {})));
    if (entry.truncated) host.append(scorePanel(split, `${counted}, against references truncated to ${entry.truncated.tokens} tokens of the language model`, entry.truncated));
  }
  for (const [split, why] of Object.entries(metrics.skipped || {})) host.append(empty(`${splitName(split)} split skipped: ${why}.`));
  for (const [metric, why] of Object.entries(metrics.unavailable || {})) host.append(empty(`${metric}: unavailable: ${why}`));
  const original = metrics.original_choices || [];
  if (original.length) host.append(h("div", { class: "panel signatures" }, "Options set as in the original R2GenGPT:", h("ul", {}, ...original.map((choice) => h("li", {}, choice)))));
  host.append(h("div", { class: "panel" },
    metrics.constant_report ? h("details", {}, h("summary", {}, "The constant report"), h("p", { class: "small" }, metrics.constant_report)) : "", signatureList(metrics.signatures, metrics.recipe)));
}

// ---------------------------------------------------------------------------------------------------------- curves
function lastBest() { return data.curves.validations.filter((row) => row.best).pop() || null; }
function validationTable(rows, keys) {
  return h("details", {}, h("summary", {}, "Validations as a table"), h("div", { class: "scroll", tabindex: "0" }, h("table", {},
    h("thead", {}, h("tr", {}, h("th", {}, "Step"), h("th", {}, "Epoch"), ...keys.map((key) => h("th", {}, metricName(key))), h("th", {}, "Selection"))),
    h("tbody", {}, ...rows.map((row) => h("tr", {}, h("td", {}, grouped(row.step), row === lastBest() ? " ★ best" : ""), h("td", {}, isNumber(row.epoch) ? row.epoch.toFixed(2) : "–"),
      ...keys.map((key) => h("td", {}, score((row.scores || {})[key]))), h("td", {}, score(row.selection))))))));
}
function showCurves() {
  const { steps, validations, logged } = data.curves, host = section("curves");
  if (!steps.length && !validations.length) { host.append(heading("curves", "Curves"), empty("No training step is recorded in this folder yet.")); return; }
  const keys = tableScores(validations.flatMap((row) => Object.keys(row.scores || {}))), best = lastBest()?.step ?? null;
  const has = (key) => steps.some((row) => key in row);
  if (has("loss")) new Chart("Training loss", [series("loss per target token", steps, (row) => row.loss)], { smooth: true, best });
  if (keys.length) new Chart("Validation scores", keys.map((key) => series(metricName(key), validations, (row) => (row.scores || {})[key])), { fromZero: true, best });
  if (has("lr")) new Chart("Learning rate", [series("learning rate", steps, (row) => row.lr)], { fromZero: true, best });
  if (has("grad_norm")) new Chart("Gradient norm", [series("norm before clipping", steps, (row) => row.grad_norm)], { fromZero: true, smooth: true, best });
  host.append(heading("curves", "Curves", chartSwitches()), chartGrid());
  if (steps.length < logged) host.append(h("p", { class: "small soft" }, `${grouped(steps.length)} of ${grouped(logged)} recorded steps are drawn: those with the lowest and the highest loss of each interval.`));
  if (keys.length) host.append(h("div", { class: "panel after" }, validationTable(validations, keys)));
  drawCharts();
}

// --------------------------------------------------------------------------------------------------------- studies
function studyCard(entry) {
  const { row, overlap } = entry, filled = h("i", {}), scores = Object.entries(row.scores || {});
  filled.style.width = `${Math.round(100 * overlap)}%`;
  return h("article", { class: "panel study" },
    h("header", {}, h("h3", {}, row.id),
      row.finish === "length" ? h("span", { class: "badge stopped", title: "Generation reached the token limit before the report ended" }, "cut at the token limit") : "",
      entry.differs ? "" : h("span", { class: "badge finished" }, "same words as the reference"),
      h("span", { class: "number", title: "F1 of the longest common subsequence of words, 0 to 1" }, h("span", { class: "bar", "aria-hidden": "true" }, filled), `overlap ${overlap.toFixed(2)}`),
      h("span", { class: "number soft" }, [plural(row.tokens, "token", "tokens"), row.finish, isNumber(row.seconds) ? duration(row.seconds) : null].filter(Boolean).join(" · "))),
    imageStrip(row),
    h("div", { class: "texts" },
      h("div", {}, h("h4", {}, `Reference, ${plural(entry.reference.length, "word", "words")}`), highlighted(row.reference, entry.reference, "del", "not in the generated report")),
      h("div", {}, h("h4", {}, `Generated, ${plural(entry.report.length, "word", "words")}`), highlighted(row.report, entry.report, "ins", "not in the reference")),
      scores.length ? h("p", { class: "scores-line" }, scores.map(([name, value]) => `${metricName(name)} ${score(value)}`).join(" · ")) : ""));
}
function sortings(entries) {
  const found = { id: ["Id", null], overlap: ["Overlap", (one) => one.overlap], length: ["Length of the generated report", (one) => one.report.length],
    reference: ["Length of the reference", (one) => one.reference.length] };
  for (const name of new Set(entries.flatMap(({ row }) => Object.keys(row.scores || {})))) found[`score ${name}`] = [metricName(name), ({ row }) => row.scores[name] ?? -Infinity];
  return found;
}
function byName(one, other) { return one.row.id.localeCompare(other.row.id, "en", { numeric: true }); }
function showStudies() {
  const studies = data.studies, host = section("studies");
  if (!studies) { host.append(heading("studies", "Studies"), empty("No generated reports yet: the run has not reached its first validation.")); return; }
  const summary = `In the whole split, the model wrote ${plural(studies.distinct, "different report", "different reports")}; ${grouped(studies.cut)} of ${grouped(studies.total)} were cut at the token limit.`;
  if (!studies.rows.length) { host.append(heading("studies", "Studies"), empty(`No study is shown (evaluate.page_studies=0). ${summary}`)); return; }
  const entries = studies.rows.map(compared), orders = sortings(entries), cards = new Map(entries.map((entry) => [entry, studyCard(entry)]));
  const search = h("input", { type: "search", placeholder: "Filter by id or words", "aria-label": "Filter studies by id, reference or generated text" });
  const differing = h("input", { type: "checkbox" }), cut = h("input", { type: "checkbox" });
  const order = h("select", { "aria-label": "Sort by" }, ...Object.entries(orders).map(([key, [label]]) => h("option", { value: key }, label)));
  const direction = h("button", { type: "button", "aria-label": "Sort direction" }), count = h("span", { class: "count", role: "status" });
  const list = h("div", { class: entries.some(({ row }) => row.images.length > 1) ? "pairs-of-images" : null }), nothing = h("div", { class: "panel empty", hidden: true }, "No study matches. ", h("button", { type: "button", onclick: () => reset() }, "Show all"));
  let descending = false;
  const apply = () => {
    const wanted = search.value.trim().toLowerCase(), value = orders[order.value][1];
    const matching = entries.filter((one) => (!differing.checked || one.differs) && (!cut.checked || one.row.finish === "length") &&
      `${one.row.id}\n${one.row.reference}\n${one.row.report}`.toLowerCase().includes(wanted));
    matching.sort((one, other) => (descending ? -1 : 1) * ((value ? value(one) - value(other) : 0) || byName(one, other)));
    list.replaceChildren(...matching.map((entry) => cards.get(entry)));
    nothing.hidden = matching.length > 0;
    count.textContent = `${matching.length} of ${entries.length} shown`;
    direction.textContent = descending ? "↓ descending" : "↑ ascending";
  };
  const reset = () => { search.value = ""; differing.checked = cut.checked = false; apply(); search.focus(); };
  direction.addEventListener("click", () => { descending = !descending; apply(); });
  search.addEventListener("input", apply);
  for (const control of [differing, cut, order]) control.addEventListener("change", apply);
  host.append(heading("studies", "Studies", h("span", { class: "soft small" }, `${splitName(studies.split)} split, generation ${studies.generation}${studies.header.checkpoint ? `, checkpoint ${studies.header.checkpoint}` : ""}`)),
    h("p", { class: "small soft" }, studies.total > entries.length ? `${entries.length} of ${plural(studies.total, "study", "studies")}, spaced evenly over the sorted ids; every update of this page shows the same ones. ` : `All ${plural(studies.total, "study", "studies")}. `,
      summary),
    h("p", { class: "key" }, h("span", {}, h("del", {}, "dashed"), " missing from the generated report"), h("span", {}, h("ins", {}, "solid"), " not in the reference"),
      h("span", {}, "overlap: F1 of the longest common subsequence of words, 0 to 1")),
    h("div", { class: "panel controls", role: "search" }, search, h("label", { class: "switch" }, differing, "Only differing"), h("label", { class: "switch" }, cut, "Only cut"),
      h("span", { class: "pair" }, "Sort", order, direction), count), list, nothing);
  apply();
}

// -------------------------------------------------------------------------------------------- run and configuration
function parameterTable() {
  const rows = run.parameters || [];
  if (!rows.length) return h("p", { class: "soft" }, "The model had not been built when this page was written.");
  const total = rows.reduce((sum, row) => sum + row.total, 0), trainable = rows.reduce((sum, row) => sum + row.trainable, 0);
  const cells = (row) => [h("td", {}, grouped(row.total)), h("td", {}, grouped(row.trainable)), h("td", {}, share(row.trainable, row.total))];
  return h("div", { class: "scroll", tabindex: "0" }, h("table", {}, h("thead", {}, h("tr", {}, ...["Part", "Parameters", "Trainable", "Share"].map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, ...rows.map((row) => h("tr", {}, h("th", { scope: "row" }, row.part), ...cells(row)))),
    h("tfoot", {}, h("tr", {}, h("th", { scope: "row" }, "All"), ...cells({ total, trainable })))));
}
function showDetails() {
  const git = run.git || {}, header = data.studies ? data.studies.header : {};
  section("details").append(heading("details", "Run and configuration"),
    h("div", { class: "two" },
      h("div", {}, h("div", { class: "panel" }, h("h3", {}, "Parameters"), parameterTable()),
        Object.keys(header || {}).length ? h("div", { class: "panel" }, h("h3", {}, "How the reports above were generated"), pairs(Object.entries(header))) : ""),
      h("div", { class: "panel" }, h("h3", {}, "Provenance"), pairs([["Folder", data.folder], ["Code", git.revision ? `${git.revision}${git.dirty ? ", with uncommitted changes" : ""}` : null],
        ["Overrides", (run.overrides || []).join(" ") || "none: all defaults"], ["Data hash", run.data_hash], ["Identity", run.identity], ["Run format", run.format],
        ...Object.entries(run.versions || {})]))),
    h("div", { class: "panel after" }, h("details", {}, h("summary", {}, "Resolved configuration (config.yaml)"), h("pre", { tabindex: "0" }, data.config))));
  showFooter();
}

showMasthead();
showScores();
showCurves();
showStudies();
showDetails();
