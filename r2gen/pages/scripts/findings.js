// The findings of reports against those of the reference: chips, filters and F1.
// A finding with "(uncertain)" counts as stated, as in the metric `findings`.
const UNCERTAIN = / \(uncertain\)$/;
const FINDING_KINDS = { missed: "Missed", invented: "Invented", present: "In both texts" };

function plainFinding(text) {
  return text.replace(UNCERTAIN, "");
}

// The findings that a report misses, invents, and has in common with the reference; null if they are not known.
function findingsAgainst(row, name) {
  if (!row.findings?.reference || !row.findings[name]) return null;
  const [reference, report] = [row.findings.reference, row.findings[name]].map((all) => all.map(plainFinding));
  return {
    missed: reference.filter((finding) => !report.includes(finding)),
    invented: report.filter((finding) => !reference.includes(finding)),
    present: report.filter((finding) => reference.includes(finding)),
  };
}

// F1 of the findings of one report; null if neither text states one.
function clinicalF1(row, name) {
  const found = findingsAgainst(row, name);
  if (!found) return null;
  const all = 2 * found.present.length + found.missed.length + found.invented.length;
  return all ? (2 * found.present.length) / all : null;
}

function hasFindings(rows) {
  return rows.some((row) => row.findings?.reference);
}

// Whether one of these reports has the finding in this way; `wanted` is "missed:Edema", or "" for all.
function matchesFinding(row, names, wanted) {
  if (!wanted) return true;
  const [kind, finding] = wanted.split(":");
  return names.some((name) => findingsAgainst(row, name)?.[kind].includes(finding));
}

// A select element of all findings that are missed, invented or present in the reports `names`, with their numbers.
function findingPicker(rows, names, change) {
  const counts = {};
  for (const row of rows) {
    const keys = names.flatMap((name) => Object.entries(findingsAgainst(row, name) || {}));
    const own = new Set(keys.flatMap(([kind, findings]) => findings.map((finding) => `${kind}:${finding}`)));
    for (const key of own) counts[key] = (counts[key] || 0) + 1;
  }
  const groups = Object.entries(FINDING_KINDS).map(([kind, label]) => {
    const keys = Object.keys(counts).filter((key) => key.startsWith(`${kind}:`));
    const option = (key) => {
      return h("option", { value: key }, `${label}: ${key.slice(kind.length + 1)} (${grouped(counts[key])})`);
    };
    return h("optgroup", { label }, ...keys.sort(compareNaturally).map(option));
  });
  const onchange = (event) => change(event.target.value);
  return h("select", { "aria-label": "Findings", onchange }, h("option", { value: "" }, "All findings"), ...groups);
}

// The findings of a text; for a report also whether the reference has them, and those that the report misses.
function findingChips(row, name) {
  const findings = row.findings?.[name];
  if (!findings) return "";
  const chip = (text, kind, title) => h("span", { class: `chip ${kind}`, title }, text);
  if (name === "reference") {
    if (!findings.length) return h("div.chips", chip("no finding stated", "", "none of the 14 observations"));
    return h("div.chips", ...findings.map((text) => chip(text, "", "in the reference")));
  }
  const { missed, invented } = findingsAgainst(row, name);
  return h(
    "div.chips",
    ...findings.map((text) =>
      invented.includes(plainFinding(text))
        ? chip(`+ ${text}`, "extra", "invented: not in the reference")
        : chip(`✓ ${text}`, "right", "in the reference too"),
    ),
    ...missed.map((text) => chip(`− ${text}`, "lost", "missed: in the reference, not in this report")),
  );
}

function findingKey() {
  const chip = (text, kind) => h("span", { class: `chip ${kind}` }, text);
  return h("span", chip("✓ in both texts", "right"), " ", chip("+ invented", "extra"), " ", chip("− missed", "lost"));
}
