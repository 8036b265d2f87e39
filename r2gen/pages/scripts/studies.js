// The images of a study, and its reports by several systems side by side.
function imageStrip(row) {
  if (!row.images.length) return h("div.images", h("p.noimage", "This page has no image of this study."));
  const buttons = row.images.map((source, index) => {
    const alt = `Image ${index + 1} of ${row.images.length}, study ${row.id}. Enlarge.`;
    const attributes = { type: "button", title: "Enlarge", onclick: () => showImage(row, index) };
    return h("button", attributes, h("img", { src: source, alt }));
  });
  return h("div.images", ...buttons);
}

// Show an image enlarged in the dialog, with buttons and arrow keys for the others of the study.
function showImage(row, start) {
  const dialog = byId("viewer");
  const image = h("img");
  const label = h("span");
  let at = start;
  const show = (index) => {
    at = (index + row.images.length) % row.images.length;
    const position = `${at + 1} of ${row.images.length}`;
    image.src = row.images[at];
    image.alt = `Image ${position}, study ${row.id}`;
    label.textContent = `${row.id} · image ${position} · reduced in size, not for diagnosis`;
  };
  const previous = () => show(at - 1);
  const next = () => show(at + 1);
  const steps = row.images.length > 1 ? [button("Previous", previous), button("Next", next)] : [];
  dialog.replaceChildren(
    image,
    h(
      "div.strip",
      label,
      ...steps,
      button("Close", () => dialog.close()),
    ),
  );
  dialog.onclick = (event) => event.target === dialog && dialog.close();
  dialog.onkeydown = (event) => ({ ArrowLeft: previous, ArrowRight: next })[event.key]?.();
  show(start);
  dialog.showModal();
}

// A container for studies, wider if a study has several images.
function studyList(studies) {
  return h("div", { class: studies.some((row) => row.images.length > 1) ? "pairs-of-images" : null });
}

// One study with the reports of several systems. `names` are the systems to show, keys of row.reports.
function manyTexts(row, names, detail) {
  const reference = h("p", { dir: "auto" }, row.reference || "(empty)");
  return h(
    "article.panel.study.many",
    h("header", h("h3", row.id), h("span.number.soft", detail || "")),
    imageStrip(row),
    h(
      "div.texts",
      h("div.whole", h("h4", "Reference"), reference, findingChips(row, "reference")),
      ...names.map((name) =>
        h("div", h("h4", name), reportOf(row, name), findingChips(row, name), scoresLine(row.scores?.[name], inTable)),
      ),
    ),
  );
}

function reportOf(row, name) {
  const report = row.reports[name];
  if (report === undefined) return h("p.none", "no report for this study");
  const words = compared({ reference: row.reference, report }).report;
  return highlighted(report, words, "ins", "not in the reference");
}

// The findings of a text; for a report also whether the reference has them, and those that the report omits.
function findingChips(row, name) {
  const findings = row.findings?.[name];
  if (!findings) return "";
  const chip = (text, kind, title) => h("span", { class: `chip ${kind}`, title }, text);
  if (name === "reference") return h("div.chips", ...findings.map((text) => chip(text, "", "in the reference")));
  const ofReference = row.findings.reference || [];
  const missing = ofReference.filter((text) => !findings.includes(text));
  return h(
    "div.chips",
    ...findings.map((text) =>
      ofReference.includes(text)
        ? chip(`✓ ${text}`, "right", "in the reference too")
        : chip(`+ ${text}`, "extra", "not in the reference"),
    ),
    ...missing.map((text) => chip(`− ${text}`, "lost", "in the reference, not in this report")),
  );
}
