// Reports with the words that differ from the reference highlighted, and the images of a study.
// Words are compared case-insensitively and without punctuation. Each Chinese character is a word.
const WORD = /\p{Script=Han}|\d+(?:[.,]\d+)*|(?:(?!\p{Script=Han})[\p{L}\p{M}\p{N}])+(?:['’\-](?:(?!\p{Script=Han})[\p{L}\p{N}])+)*/gu;
const MOST_CELLS = 6e6; // of the comparison's table; beyond this the middle of two texts is highlighted as a whole
function wordsOf(text) {
  return [...text.matchAll(WORD)].map((found) => ({ word: found[0].toLowerCase(), start: found.index, end: found.index + found[0].length, common: false }));
}
function markCommon(left, right) {
  let head = 0, tail = 0;
  while (head < left.length && head < right.length && left[head].word === right[head].word) { left[head].common = right[head].common = true; head += 1; }
  while (tail < left.length - head && tail < right.length - head && left[left.length - 1 - tail].word === right[right.length - 1 - tail].word) {
    left[left.length - 1 - tail].common = right[right.length - 1 - tail].common = true; tail += 1;
  }
  const rows = left.length - head - tail, columns = right.length - head - tail, wide = columns + 1;
  if ((rows + 1) * wide > MOST_CELLS) return;
  const longest = new Uint16Array((rows + 1) * wide); // length of the longest common subsequence of what follows
  for (let i = rows - 1; i >= 0; i -= 1) {
    for (let j = columns - 1; j >= 0; j -= 1) {
      longest[i * wide + j] = left[head + i].word === right[head + j].word ? longest[(i + 1) * wide + j + 1] + 1 : Math.max(longest[(i + 1) * wide + j], longest[i * wide + j + 1]);
    }
  }
  for (let i = 0, j = 0; i < rows && j < columns;) {
    if (left[head + i].word === right[head + j].word) { left[head + i].common = right[head + j].common = true; i += 1; j += 1; }
    else if (longest[(i + 1) * wide + j] >= longest[i * wide + j + 1]) i += 1;
    else j += 1;
  }
}
// Where a differing stretch has several equivalent positions ("the [heart is large . the] lungs"), move it to the start of a sentence.
function slideToSentence(text, words) {
  const opens = (index) => index === 0 || /[.;:!?]/.test(text.slice(words[index - 1].end, words[index].start));
  for (let first = 0; first < words.length; first += 1) {
    if (words[first].common) continue;
    let last = first, shift = 0;
    while (last + 1 < words.length && !words[last + 1].common) last += 1;
    const movable = () => first - shift > 0 && words[first - shift - 1].common && words[first - shift - 1].word === words[last - shift].word;
    while (!opens(first - shift) && movable()) shift += 1;
    if (shift && opens(first - shift)) {
      for (let step = 1; step <= shift; step += 1) { words[first - step].common = false; words[last - step + 1].common = true; }
    }
    first = last;
  }
}
function highlighted(text, words, tag, meaning) {
  if (!text.trim()) return h("p", { class: "none" }, "(empty)");
  const paragraph = h("p", { dir: "auto" });
  let at = 0;
  for (let index = 0; index < words.length; index += 1) {
    if (words[index].common) continue;
    const start = words[index].start;
    while (index + 1 < words.length && !words[index + 1].common) index += 1;
    paragraph.append(text.slice(at, start), h(tag, { title: meaning }, text.slice(start, words[index].end)));
    at = words[index].end;
  }
  paragraph.append(text.slice(at));
  return paragraph;
}
function compared(row) {
  const reference = wordsOf(row.reference), report = wordsOf(row.report);
  markCommon(reference, report);
  slideToSentence(row.reference, reference);
  slideToSentence(row.report, report);
  const common = report.filter((one) => one.common).length, all = reference.length + report.length;
  return { row, reference, report, overlap: all ? 2 * common / all : 1, differs: common * 2 !== all };
}
function imageStrip(row) {
  if (!row.images.length) return h("div", { class: "images" }, h("p", { class: "noimage" }, "This page has no image of this study."));
  return h("div", { class: "images" }, ...row.images.map((source, index) => h("button", { type: "button", title: "Enlarge", onclick: () => view(row, index) },
    h("img", { src: source, alt: `Image ${index + 1} of ${row.images.length}, study ${row.id}. Enlarge.` }))));
}
function view(row, start) {
  const dialog = byId("viewer"), image = h("img", {}), label = h("span", {});
  let at = start;
  const show = (index) => {
    at = (index + row.images.length) % row.images.length;
    image.src = row.images[at];
    image.alt = `Image ${at + 1} of ${row.images.length}, study ${row.id}`;
    label.textContent = `${row.id} · image ${at + 1} of ${row.images.length} · reduced in size, not for diagnosis`;
  };
  const many = row.images.length > 1;
  dialog.replaceChildren(image, h("div", { class: "strip" }, label,
    many ? h("button", { type: "button", onclick: () => show(at - 1) }, "Previous") : "", many ? h("button", { type: "button", onclick: () => show(at + 1) }, "Next") : "",
    h("button", { type: "button", onclick: () => dialog.close() }, "Close")));
  dialog.onclick = (event) => { if (event.target === dialog) dialog.close(); };
  dialog.onkeydown = (event) => { if (event.key === "ArrowLeft") show(at - 1); if (event.key === "ArrowRight") show(at + 1); };
  show(start);
  dialog.showModal();
}
// One study with the reports of several systems side by side. `names` are the systems to show, keys of row.reports.
function manyTexts(row, names, beside) {
  const of = (name) => (row.reports[name] === undefined ? h("p", { class: "none" }, "no report for this study") : generated(row.reference, row.reports[name]));
  return h("article", { class: "panel study many" },
    h("header", {}, h("h3", {}, row.id), h("span", { class: "number soft" }, beside || "")), imageStrip(row),
    h("div", { class: "texts" }, h("div", { class: "whole" }, h("h4", {}, "Reference"), h("p", { dir: "auto" }, row.reference || "(empty)"), findingChips(row, "reference")),
      ...names.map((name) => h("div", {}, h("h4", {}, name), of(name), findingChips(row, name), scoresLine((row.scores || {})[name])))));
}
function generated(reference, report) {
  const words = compared({ reference, report }).report;
  return highlighted(report, words, "ins", "not in the reference");
}
function scoresLine(scores) {
  const known = Object.entries(scores || {}).filter(([name]) => inTable(name));
  return known.length ? h("p", { class: "scores-line" }, known.map(([name, value]) => `${metricName(name)} ${score(value)}`).join(" · ")) : "";
}
// The findings of a text; for a report also whether the reference has them, and those that the report omits.
function findingChips(row, name) {
  if (!row.findings || !row.findings[name]) return "";
  const found = row.findings[name], truth = row.findings.reference || [];
  const chip = (text, kind, meaning) => h("span", { class: `chip ${kind}`, title: meaning }, text);
  if (name === "reference") return h("div", { class: "chips" }, ...found.map((text) => chip(text, "", "in the reference")));
  return h("div", { class: "chips" }, ...found.map((text) => truth.includes(text) ? chip(`✓ ${text}`, "right", "in the reference too") : chip(`+ ${text}`, "extra", "not in the reference")),
    ...truth.filter((text) => !found.includes(text)).map((text) => chip(`− ${text}`, "lost", "in the reference, not in this report")));
}
