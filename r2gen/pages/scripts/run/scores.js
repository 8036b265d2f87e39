// The scores of a run: a table for each split, with baselines, intervals and notes.
const SYSTEMS = {
  model: ["Model", "reports of this run's model"],
  constant: ["Constant report", "baseline: one training report for all studies"],
  shuffled: ["Shuffled images", "baseline: the model's report for another study"],
  random: ["Random report", "baseline: a random training report for each study"],
  nearest: ["Nearest image", "baseline: the training report of the most similar images"],
};
const AVERAGES = {
  micro_14: "Micro average of 14 findings",
  macro_14: "Macro average of 14 findings",
  micro_5: "Micro average of 5 findings",
  macro_5: "Macro average of 5 findings",
};

function showScores() {
  const metrics = data.metrics;
  const external = Object.keys(data.external || {}).length;
  if (!metrics && !external && !data.curves.validations.length && isOver()) return;
  const host = section("scores");
  if (!metrics) {
    host.append(heading("scores", "Scores"), lastValidation());
    showExternal(host);
    return;
  }
  const about = `generation ${metrics.generation || "–"}, checkpoint ${metrics.checkpoint || "–"}`;
  host.append(heading("scores", "Scores", headingNote(about)));
  for (const [split, entry] of Object.entries(metrics.splits || {})) host.append(...splitPanels(split, entry));
  for (const [split, why] of Object.entries(metrics.skipped || {})) {
    host.append(empty(`${splitName(split)} split skipped: ${why}.`));
  }
  for (const [metric, why] of Object.entries(metrics.unavailable || {})) {
    host.append(empty(`${metric}: unavailable: ${why}`));
  }
  const original = (metrics.original_choices || []).map((choice) => h("li", choice));
  if (original.length) {
    host.append(h("div.panel.signatures", "Options set as in the original R2GenGPT:", h("ul", ...original)));
  }
  const constant = metrics.constant_report;
  const report = constant ? folded("The constant report", h("p.small", constant)) : "";
  host.append(panel(report, signatureList(metrics.signatures, metrics.recipe)));
  showExternal(host);
}

// The scores on other data sets, each with its recipe: another cleaner makes other references.
function showExternal(host) {
  for (const [name, external] of Object.entries(data.external || {})) {
    host.append(h("h3", `On another data set: ${name}`));
    for (const [split, entry] of Object.entries(external.splits)) host.append(...splitPanels(split, entry));
    host.append(panel(signatureList(external.signatures, external.recipe)));
  }
}

function lastValidation() {
  const last = data.curves.validations.at(-1);
  if (!last) return empty("No scores yet: the run has not reached its first validation.");
  return panel(
    h("h3", `${splitName(last.split)}, at step ${grouped(last.step)}`),
    scoreTable({ model: last.scores || {} }, { labels: SYSTEMS }),
    note("Computed during training. The baselines are scored when the run is evaluated."),
  );
}

// The panels of a split: scores against full references, and against truncated ones if the run has them.
function splitPanels(split, entry) {
  const counted = plural(entry.studies, "study", "studies");
  const notes = [
    nearestNote(entry.nearest),
    wordingNote(entry.wording, entry.studies),
    perplexityNote(entry.likelihood, entry.studies),
    ...findingTables(entry.details, entry.systems?.model || {}),
  ];
  const panels = [scorePanel(split, counted, entry, notes)];
  for (const [name, ofSet] of Object.entries(entry.sets || {})) {
    const about = `data set ${name}, ${plural(ofSet.studies, "study", "studies")}`;
    panels.push(scorePanel(split, about, { ...ofSet, drops: entry.drops }, []));
  }
  if (entry.truncated) {
    const tokens = `${entry.truncated.tokens} tokens of the language model`;
    const cut = { ...entry.truncated, drops: entry.drops };
    panels.push(scorePanel(split, `${counted}, against references truncated to ${tokens}`, cut, []));
  }
  panels.push(...inputPanels(split, entry));
  return panels;
}

function scorePanel(split, about, entry, notes) {
  const { intervals, margins } = entry;
  const values = withoutDrops(entry);
  const foot = (keys) => (values.model && values.constant ? [marginRow(values, margins, keys)] : []);
  return panel(
    h("div.heading", h("h3", splitName(split)), headingNote(about)),
    scoreTable(values, { intervals: intervals || {}, labels: SYSTEMS, foot, differ: differByMargin(entry) }),
    verdictNote(values, entry),
    intervalNote(intervals, Object.keys(values.model || {})),
    ...notes,
  );
}

// ------------------------------------------------------------------------------------------- margin over the constant
// Whether two systems differ beyond noise: the model from the constant report and from its reports on other images by
// their paired tests, others by their intervals.
function differByMargin({ intervals, margins, shuffled_margins: shuffled }) {
  return (key, one, other) => {
    const tested = { "constant,model": margins, "model,shuffled": shuffled }[[one, other].sort().join()]?.[key];
    return tested ? !tested.within_noise : areApart(intervals?.[one]?.[key], intervals?.[other]?.[key]);
  };
}

function marginRow(systems, margins, keys) {
  const cells = keys.map((key) => {
    const value = systems.model[key] - systems.constant[key];
    return h("td", isNumber(value) ? difference(key, value, margins?.[key]) : "–");
  });
  return h("tr", h("th", { scope: "row" }, "Margin", h("span.small", "model minus constant report")), ...cells);
}

// What the scores say: the sentences of r2gen/runs/verdict.py. Without them, plain differences are all there is.
function verdictNote(systems, { verdict, margins }) {
  if (!systems.model || !systems.constant) {
    return h("p.verdict.small.soft", "The baselines are scored when the run is evaluated.");
  }
  const [first, ...others] = verdict || [];
  const test = margins
    ? "Beyond noise: p < .05 in a paired randomisation test, of each score alone for the constant report."
    : "Margins are plain differences, without an interval.";
  return h("p.verdict.small", first ? h("strong", first) : "", " ", [...others, test].join(" "));
}

// -------------------------------------------------------------------------------------------------------------- notes
function nearestNote(search) {
  if (!search || search.compared === search.train) return "";
  const studies = `${grouped(search.compared)} of ${grouped(search.train)} training studies`;
  return note(`The nearest-image baseline was searched in ${studies}.`);
}

function wordingNote(wording, studies) {
  if (!wording) return "";
  const { model, references } = wording;
  const percent = (rate) => `${(100 * rate).toFixed(1)}\u00a0%`;
  const reports = plural(model.distinct, "different report", "different reports");
  return note(
    `The model wrote ${reports} for ${plural(studies, "study", "studies")} ` +
      `(references: ${grouped(references.distinct)}). ` +
      `${percent(model.copied_rate)} of its reports are word-for-word copies of training reports ` +
      `(references: ${percent(references.copied_rate)}). ` +
      `Mean length: ${model.mean_words.toFixed(1)} words (references: ${references.mean_words.toFixed(1)}). ` +
      `Repeated 4-grams within a report: ${percent(model.repeated_rate)} ` +
      `(references: ${percent(references.repeated_rate)}).`,
  );
}

function perplexityNote(likelihood, all) {
  if (!likelihood) return "";
  const shown = (value) => (isNumber(value) ? value.toPrecision(4) : "too large to represent");
  const part = likelihood.studies < all ? ` of ${grouped(likelihood.studies)} of ${grouped(all)} studies (evaluate.likelihood_studies)` : "";
  const altered = plural(likelihood.altered, "reference", "references");
  return note(
    `Perplexity of the references${part}: ${shown(likelihood.perplexity_per_token)} per token, ` +
      `${shown(likelihood.perplexity_per_character)} per character, ` +
      `${shown(likelihood.perplexity_per_word)} per word; ` +
      `${shown(likelihood.bits_per_character)} bits per character. ` +
      "Between models with different tokenizers, compare the values per character or per word." +
      (likelihood.altered ? ` The tokenizer changes the text of ${altered}.` : ""),
  );
}

// ----------------------------------------------------------------------------------------------------------- findings
// A table for each metric that finds findings in the texts.
function findingTables(details, scores) {
  const columns = ["Finding", "Support", "Stated", "Precision", "Recall", "F1"];
  return Object.entries(details?.model || {}).map(([labeler, findings]) => {
    const rows = Object.entries(findings).map(([name, { support, stated, precision, recall, f1 }]) => {
      return [name, grouped(support), grouped(stated), score(precision), score(recall), score(f1)];
    });
    return folded(
      labeler === "findings" ? "Each finding" : `Each finding (${labeler})`,
      note(
        "Support: references with the finding. Stated: reports of the model with the finding. " +
          "Averages leave out findings that no reference has.",
      ),
      plainTable("Each finding", columns, rows, averageRows(labeler, scores)),
    );
  });
}

function averageRows(labeler, scores) {
  const keysOf = (average) => ["precision", "recall", "f1"].map((rate) => `${labeler}_${rate}_${average}`);
  return Object.entries(AVERAGES)
    .filter(([average]) => keysOf(average).some((key) => key in scores))
    .map(([average, name]) => [name, "", "", ...keysOf(average).map((key) => score(scores[key]))]);
}
