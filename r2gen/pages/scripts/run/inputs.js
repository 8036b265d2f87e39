// What each input gives (evaluate.drop), and the scores of groups of studies: a table for each split.
const INPUTS = { prior: "Prior study", lateral: "Lateral image" };

function inputPanels(split, entry) {
  return [dropPanel(split, entry), subgroupPanel(split, entry)].filter(Boolean);
}

// The scores of the systems that are not the model with an input withheld.
function withoutDrops({ systems, drops }) {
  return Object.fromEntries(Object.entries(systems || {}).filter(([name]) => !(name in (drops || {}))));
}

function dropName(system) {
  const [how, input] = [system.slice(0, system.indexOf("_")), system.slice(system.indexOf("_") + 1)];
  const name = INPUTS[input] || metricName(input);
  return how === "no" ? `${name} withheld` : `${name} of another patient`;
}

function dropPanel(split, { drops, drop_margins: margins, systems, studies }) {
  if (!drops) return null;
  const keys = tableScores(Object.values(margins || {}).flatMap(Object.keys));
  const rows = Object.entries(drops).map(([system, { changed }]) => {
    const about = changed ? `${grouped(changed)} of ${grouped(studies)} studies changed` : "no study has it";
    const cells = keys.map((key) => {
      const tested = margins?.[system]?.[key];
      const without = systems?.[system]?.[key];
      return h("td", tested ? difference(key, tested.value, tested) : "–", tested ? h("div.small", score(without)) : "");
    });
    return h("tr", h("th", { scope: "row" }, dropName(system), h("span.small", about)), ...cells);
  });
  return panel(
    h("div.heading", h("h3", `${splitName(split)}: what each input gives`)),
    scrolling("What each input gives", h("table.scores", tableHead(["Input", ...keys.map(metricName)]), h("tbody", ...rows))),
    note(
      "The model's score minus that of the same weights without the input, with the interval of a paired bootstrap over " +
        "all studies and the p of a paired randomisation test; below it, the score without the input.",
    ),
  );
}

function subgroupPanel(split, { subgroups }) {
  if (!subgroups) return null;
  const groups = Object.entries(subgroups).flatMap(([attribute, values]) =>
    Object.entries(values).map(([value, group]) => ({ attribute, value, ...group })),
  );
  const keys = tableScores(groups.flatMap(({ scores }) => Object.keys(scores)));
  const spans = keys.map((key) => spanOf(groups.map(({ scores }) => scores[key])));
  const rows = groups.map(({ attribute, value, studies, scores }) => {
    const cells = keys.map((key, column) => scoreCell(scores[key]?.value, scores[key], false, spans[column]));
    const about = `${attribute}, ${plural(studies, "study", "studies")}`;
    return h("tr", h("th", { scope: "row" }, value, h("span.small", about)), ...cells);
  });
  const table = h("table.scores", tableHead(["Studies", ...keys.map(metricName)]), h("tbody", ...rows));
  return panel(
    h("div.heading", h("h3", `${splitName(split)}: groups of studies`)),
    folded("Scores by view, sex, age, and whether the reference is normal", scrolling("Groups of studies", table)),
    note("With 95 % intervals. Groups of fewer than 20 studies are not shown."),
  );
}
