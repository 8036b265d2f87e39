// The images of a study, its reports by several systems, and lists of studies in pages.
const PER_PAGE = 24;

function imageStrip(row) {
  if (!row.images.length) return "";
  const buttons = row.images.map((source, index) => {
    const alt = `Image ${index + 1} of ${row.images.length}, study ${row.id}. Enlarge.`;
    const attributes = { type: "button", title: "Enlarge: zoom, brightness, contrast" };
    return h("button", { ...attributes, onclick: () => showImage(row, index) }, h("img", { src: source, alt }));
  });
  return h("div.images", ...buttons);
}

function studyClass(row, ...more) {
  return ["panel", "study", ...more, row.images.length ? "" : "imageless"].filter(Boolean).join(" ");
}

// A container for studies, wider if a study has several images.
function studyList(studies) {
  return h("div", { class: studies.some((row) => row.images.length > 1) ? "pairs-of-images" : null });
}

// A list of which one page is shown. show(entries) draws its first page; random() one entry of all.
function pagedList(list, card) {
  let entries = [];
  let page = 0;
  const position = h("span.number");
  const turn = (by) => () => {
    draw(page + by);
    list.scrollIntoView({ block: "start" });
  };
  const [previous, next] = [button("← Previous", turn(-1)), button("Next →", turn(1))];
  const bar = h("div.pages", previous, position, next);
  const draw = (wanted, only = null) => {
    const last = Math.max(0, Math.ceil(entries.length / PER_PAGE) - 1);
    page = Math.min(Math.max(wanted, 0), last);
    const first = page * PER_PAGE;
    const shown = only === null ? entries.slice(first, first + PER_PAGE) : [entries[only]];
    list.replaceChildren(...shown.map(card));
    const range = only === null ? `${grouped(first + 1)} to ${grouped(first + shown.length)}` : `${grouped(only + 1)}`;
    position.textContent = `${range} of ${grouped(entries.length)}`;
    previous.disabled = only === null && page === 0;
    next.disabled = only === null && page === last;
    bar.hidden = entries.length <= PER_PAGE && only === null;
  };
  const show = (all) => {
    entries = all;
    draw(0);
  };
  const random = () => {
    const chosen = Math.floor(Math.random() * entries.length);
    page = Math.floor(chosen / PER_PAGE);
    if (entries.length) draw(page, chosen);
  };
  return { host: h("div", list, bar), show, random };
}

// One study with the reports of several systems. `names` are the systems to show, keys of row.reports.
function manyTexts(row, names, detail) {
  const reference = h("p", { dir: "auto" }, row.reference || "(empty)");
  return h(
    "article",
    { class: studyClass(row, "many") },
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

// ---------------------------------------------------------------------------------------------------------------- CSV
// A button that saves a table as a CSV file. table() gives its rows, the first with the names of the columns.
function csvButton(name, table) {
  const save = () => {
    const text = table().map((row) => row.map(csvCell).join(",")).join("\r\n");
    const file = new Blob([`\ufeff${text}\r\n`], { type: "text/csv" });
    const link = h("a", { href: URL.createObjectURL(file), download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  };
  return button("CSV", save);
}

// A cell that a spreadsheet never evaluates: a text that starts like a formula gets a leading apostrophe.
function csvCell(value) {
  if (isNumber(value)) return String(value);
  const text = String(value ?? "");
  return `"${(/^[=+\-@\t\r]/.test(text) ? `'${text}` : text).replace(/"/g, '""')}"`;
}
