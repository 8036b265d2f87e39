// The scores of all systems, and means over seeds.
function showScores() {
  const labels = Object.fromEntries(
    systems.map(({ name, source }) => [name, [name, baselines.has(name) ? source : ""]]),
  );
  section("scores").append(
    heading("scores", "Scores", headingNote("bold: the best score of a column, if it differs from all others beyond noise")),
    panel(
      scoreTable(valuesOf(data.scores), { intervals: data.scores, labels, differ: differInPairs(data.pairs) }),
      note("Below each score is its 95 % interval; the intervals of a column share one scale."),
      ...data.notes.map((text) => note(text)),
    ),
    meansOverSeeds(),
    panel(signatureList(data.signatures, data.recipe)),
  );
}

// Whether the paired test of two systems found a difference.
function differInPairs(pairs) {
  const beyond = pairs.filter((pair) => !pair.within_noise).map((pair) => `${pair.score}\n${pair.first}\n${pair.second}`);
  const found = new Set(beyond);
  return (key, one, other) => found.has(`${key}\n${one}\n${other}`) || found.has(`${key}\n${other}\n${one}`);
}

function meansOverSeeds() {
  if (!data.joined.length) return "";
  const intervals = Object.fromEntries(data.joined.map((one) => [one.name, one.scores]));
  const labels = Object.fromEntries(data.joined.map((one) => [one.name, [one.name, `seeds ${one.seeds.join(", ")}`]]));
  const explanation =
    "Below each mean is its 95 % Student interval over seeds: how much the score varies between trainings of the " +
    "same configuration. A single seed has none.";
  const pairs = data.joined_pairs.length ? pairTable("Differences of means over seeds", data.joined_pairs) : "";
  const table = scoreTable(valuesOf(intervals), { intervals, labels, differ: differInPairs(data.joined_pairs) });
  return panel(h("h3", "Mean over seeds"), table, note(explanation), pairs);
}
