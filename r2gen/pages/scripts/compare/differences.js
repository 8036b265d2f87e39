// The paired differences of every two systems.
function showDifferences() {
  const scores = tableScores(data.pairs.map((pair) => pair.score));
  if (!scores.length) return;
  const host = section("differences");
  const first = scores.includes(data.differ_by) ? data.differ_by : scores[0];
  const choice = { score: first, with: "", beyondNoise: false, baselines: false };
  const counts = h("p.small", { role: "status" });
  const rows = () => chosenPairs(choice).map(pairRow);
  const plot = dotPlot("Paired differences", rows, { middle: 0, axis: "second − first" });
  const change = (key) => (value) => {
    choice[key] = value;
    const pairs = chosenPairs(choice);
    const noise = pairs.filter((pair) => pair.within_noise).length;
    const counted = `${plural(pairs.length, "pair", "pairs")}, ${noise} within noise`;
    counts.textContent = `${metricName(choice.score)}: ${counted}.`;
    plot.draw();
  };
  const explanation =
    "Each line is the 95 % interval of second − first from a paired bootstrap over studies. p is from a paired " +
    "randomisation test, which swaps the two systems' reports of a study at random, with Holm's correction over all " +
    "pairs of systems in a score. Within noise: p is .05 or more.";
  const shown = data.pairs.filter((pair) => inTable(pair.score));
  host.append(
    heading("differences", "Paired differences"),
    pairControls(scores, choice, change),
    panel(counts, plot.host, note(explanation), pairTable("All differences as a table", shown)),
  );
  change("score")(choice.score);
}

function pairControls(scores, choice, change) {
  const ofSystem = [["", "any system"], ...names.map((name) => [name, name])];
  return h(
    "div.panel.controls",
    picker(
      "Score",
      scores.map((key) => [key, metricName(key)]),
      choice.score,
      change("score"),
    ),
    picker("With", ofSystem, choice.with, change("with")),
    switchBox("Only beyond noise", false, change("beyondNoise")),
    baselines.size > 1 ? switchBox("Pairs of baselines", false, change("baselines")) : "",
  );
}

function chosenPairs(choice) {
  return data.pairs.filter(({ score, first, second, within_noise }) => {
    if (score !== choice.score || (choice.beyondNoise && within_noise)) return false;
    if (choice.with && first !== choice.with && second !== choice.with) return false;
    return choice.baselines || !baselines.has(first) || !baselines.has(second);
  });
}

function pairRow(pair) {
  const { difference, within_noise } = pair;
  const tests = `p ${probability(pair.p)}, Holm ${probability(pair.p_holm)}`;
  const title = `${signed(difference.value)}, 95 % ${range(difference)}, ${tests}`;
  const index = within_noise ? 5 : difference.value > 0 ? 2 : 1; // gray, green, orange
  return {
    label: `${pair.second} − ${pair.first}`,
    note: within_noise ? "within noise" : `p ${probability(pair.p_holm)}`,
    values: [{ ...difference, index, hollow: within_noise, title }],
  };
}

// A table of pairs { score, first, second, difference, within_noise }, with p where the pairs were tested.
function pairTable(title, pairs) {
  const tested = pairs.some((pair) => "p" in pair);
  const columns = ["Score", "Between", "Difference", "95 %", ...(tested ? ["p", "p, Holm"] : ["Seeds"]), ""];
  const rows = pairs.map((pair) => [
    metricName(pair.score),
    `${pair.second} − ${pair.first}`,
    signed(pair.difference.value),
    range(pair.difference),
    ...(tested ? [probability(pair.p), probability(pair.p_holm)] : [pair.seeds.join(", ")]),
    pairVerdict(pair),
  ]);
  return folded(title, plainTable(title, columns, rows));
}

function pairVerdict({ score, difference, within_noise }) {
  if (within_noise) return h("span.soft", "within noise");
  return h(gain(score, difference.value) > 0 ? "span.ahead" : "span.behind", "beyond noise");
}
