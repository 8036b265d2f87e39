// The page of task=demo (r2gen/tasks/demo/): images are sent to POST /report, and its answer is shown.
const result = h("div", { "aria-live": "polite" });
const status = h("p.small", { role: "status" }, "Nothing is sent to another machine.");
let chosen = [];
let indication = () => "";

function showMasthead() {
  byId("masthead").append(
    h("p.eyebrow", "R2Gen · demo"),
    h("div.name", h("h1", "A report for your images")),
    h("p.soft.small", `Written by ${data.runs.join(" and ")}. One study at a time: its images, frontal and lateral.`),
  );
}

function showForm() {
  const picked = h("span.soft", "no file chosen");
  const input = h("input.unseen", { type: "file", multiple: true, "aria-label": "Images of one study" });
  const write = h("button.main", { type: "button", disabled: true, onclick: () => send(write) }, "Write the report");
  const choose = (files) => {
    chosen = [...files].slice(0, data.most_images);
    picked.textContent = chosen.map((file) => file.name).join(", ") || "no file chosen";
    write.disabled = !chosen.length;
    const all = chosen.reduce((sum, file) => sum + file.size, 0);
    const most = `at most ${grouped(Math.floor(data.most_bytes / 2 ** 20))} MiB (demo.max_mib)`;
    if (all > data.most_bytes) {
      write.disabled = true;
      say(`These files are too large: ${most}.`, "behind");
    } else say(chosen.length < files.length ? `Only the first ${data.most_images} files are used.` : "");
  };
  input.addEventListener("change", () => choose(input.files));
  const drop = h(
    "label.drop",
    {
      ondragover: (event) => event.preventDefault(),
      ondrop: (event) => {
        event.preventDefault();
        choose(event.dataTransfer.files);
      },
    },
    h("strong", "Drop the images of one study here, or click to choose them"),
    h("span.small.soft", `PNG, JPEG, TIFF or DICOM, up to ${data.most_images} files`),
    picked,
    input,
  );
  const why = h("input", { type: "search", "aria-label": "Indication", placeholder: "Indication (optional)" });
  indication = () => why.value;
  const asked = data.reads_indication ? [h("div.controls", why)] : [];
  const command = folded("From a terminal", commandLine(data.command), note("The answer is JSON: report, findings, ..."));
  section("form").append(panel(drop, ...asked, h("div.pages", write), status, command), result);
}

function say(text, kind = "soft") {
  status.textContent = text;
  status.setAttribute("class", `small ${kind}`);
}

async function send(write) {
  const form = new FormData();
  for (const file of chosen) form.append("image", file);
  form.append("preview", "1");
  if (indication()) form.append("indication", indication());
  write.disabled = true;
  say("The report is being written ...");
  try {
    const answer = await fetch("/report", { method: "POST", body: form });
    const content = await answer.json();
    if (!answer.ok) throw new Error(content.error);
    say(`Written in ${duration(content.seconds)}.`);
    result.replaceChildren(...answerPanels(content));
  } catch (error) {
    result.replaceChildren();
    say(error instanceof TypeError ? "The demo does not answer: it has ended." : `Error: ${error.message}`, "behind");
  }
  write.disabled = false;
}

function answerPanels(content) {
  const row = { id: chosen.map((file) => file.name).join(", "), images: content.images };
  const several = content.others.length ? "two" : "one";
  return [
    h("div.panel.pictures", imageStrip(row)),
    h("div", { class: several }, ...[content, ...content.others].map(reportPanel)),
    nearestPanel(content),
  ];
}

function reportPanel({ name, report, findings, sentences, seconds }) {
  const chips = findings.length ? findings : ["no finding stated"];
  return h(
    "article.panel",
    h("div.heading", h("h3", name), headingNote(duration(seconds))),
    report.trim() ? h("p.report", { dir: "auto" }, ...sentences.flatMap(markedSentence)) : h("p.none", "(empty)"),
    h("div.chips", ...chips.map((text) => h("span.chip", text))),
  );
}

// A sentence that states a finding is marked.
function markedSentence({ text, findings }) {
  return [findings.length ? h("mark", { title: findings.join(", ") }, text) : text, " "];
}

function nearestPanel({ findings, nearest, nearest_note: why }) {
  const title = h("h3", "The training report of the most similar images");
  if (!nearest) return h("article.panel.empty", title, note(`Not shown: ${why}.`));
  const [own, other] = [findings, nearest.findings].map((all) => all.map(plainFinding));
  const chip = (text) =>
    own.includes(plainFinding(text))
      ? h("span.chip.right", `✓ ${text}`)
      : h("span.chip", { title: "not in the generated report" }, text);
  const only = findings.filter((text) => !other.includes(plainFinding(text)));
  return h(
    "article.panel",
    h("div.heading", title, headingNote(nearest.id)),
    h("p.report", { dir: "auto" }, ...nearest.sentences.flatMap(markedSentence)),
    h("div.chips", ...nearest.findings.map(chip), ...only.map((text) => h("span.chip.extra", `+ ${text}`))),
    note(
      "A baseline that uses no model: the pixels are compared at 32 × 32. ✓: shared with the generated report; ",
      "+: only in the generated report.",
    ),
  );
}

showMasthead();
showForm();
