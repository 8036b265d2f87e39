// The head of a run's page: name, status, command, and the main facts.
const run = data.run;
const STATUS = {
  running: ["●", "running", "The run was in progress when this page was written."],
  finished: ["✓", "finished", "The run is complete."],
  stopped: ["❚❚", "stopped", "The run was interrupted after a checkpoint. The same command resumes it."],
  failed: ["✕", "failed", "The run ended with an error."],
};

// Whether the run has ended early, so that what it lacks will not come: its page has no empty parts.
function isOver() {
  return run.status === "failed" || run.status === "stopped";
}

function showMasthead() {
  const [symbol, word, sentence] = STATUS[run.status] || ["?", String(run.status), ""];
  const kind = STATUS[run.status] ? run.status : "stopped";
  const badge = h(
    "span",
    { class: `badge ${kind}`, title: sentence },
    h("span", { "aria-hidden": "true" }, symbol),
    word,
  );
  byId("masthead").append(
    h("p.eyebrow", `R2Gen · ${run.task || "run"}`),
    h("div.name", h("h1", run.name || data.folder), badge),
    h("p.soft.small", `${sentence} Page written ${moment(data.written)}.`),
    run.reason ? h("p", { class: `reason ${run.status}` }, run.reason) : "",
    staleness(),
    run.command ? commandLine(run.command) : "",
    h("dl.facts", ...choiceFacts(), ...processFacts()),
    pageLinks(data.links),
    navigationBar({ scores: "Scores", curves: "Curves", studies: "Studies", details: "Run and config" }),
  );
}

// A warning if a run that was in progress has not updated its page for hours.
function staleness() {
  const hours = (Date.now() - Date.parse(data.written)) / 3.6e6;
  if (run.status !== "running" || !(hours > 2)) return "";
  const ago = hours < 48 ? `${Math.round(hours)} hours` : `${Math.round(hours / 24)} days`;
  return h(
    "p.reason.running",
    `This page was written ${ago} ago, while the run was in progress. It is rewritten at each validation: ` +
      "the run may have been killed since, or this copy of the page is old.",
  );
}

function choiceFacts() {
  const { choices } = data;
  const tuning = [
    choices.tune ? `encoder ${choices.tune}` : null,
    choices["tune/lm"] ? `LM ${choices["tune/lm"]}` : null,
  ];
  return [
    fact("Language model", choices.lm),
    fact("Image encoder", choices.vision),
    fact("Data", choices.data),
    fact("Objective", choices.objective),
    fact("Tuning", tuning.filter(Boolean).join(", ")),
    fact("Quantisation", run.quant || choices.quant),
    fact("Generation", choices.generation),
  ];
}

function processFacts() {
  const { total, trainable } = parameterSums();
  const memory = run.peak_memory_gib;
  const seconds = Object.entries(run.seconds || {}).filter(([, value]) => isNumber(value));
  const allSeconds = seconds.reduce((sum, [, value]) => sum + value, 0);
  const ofTotal = `of ${amount(total)} parameters (${share(trainable, total)})`;
  return [
    fact("Trainable", total ? amount(trainable) : null, ofTotal),
    fact("Progress", ...progress()),
    fact("Hardware", ...hardware()),
    fact("Started", moment(run.started), run.finished ? `ended ${moment(run.finished)}` : null),
    fact("Peak memory", isNumber(memory) ? `${reading(memory)} GiB` : null, "highest of all ranks"),
    fact(
      "Duration",
      seconds.length ? duration(allSeconds) : null,
      seconds.map(([name, value]) => `${name} ${duration(value)}`).join(", "),
    ),
  ];
}

function parameterSums() {
  const parts = run.parameters || [];
  const sum = (key) => parts.reduce((total, part) => total + part[key], 0);
  return { total: sum("total"), trainable: sum("trainable") };
}

function progress() {
  const last = data.curves.steps.at(-1);
  if (!last) return [null, null];
  const parts = [
    isNumber(last.epoch) ? `epoch ${last.epoch.toFixed(2)}` : null,
    `loss ${reading(last.loss)}`,
    isNumber(last.samples_per_s) ? `${reading(last.samples_per_s)} samples/s` : null,
  ];
  return [`step ${grouped(last.step)}`, parts.filter(Boolean).join(" · ")];
}

function hardware() {
  const machine = run.hardware || {};
  const gpus = machine.gpus || [];
  const names = [...new Set(gpus)].map((name) => {
    const count = gpus.filter((other) => other === name).length;
    return count > 1 ? `${count} × ${name}` : String(name);
  });
  const memory = isNumber(machine.memory_gib) ? `${Math.round(machine.memory_gib)} GiB` : null;
  const rest = [machine.cpu, memory].filter(Boolean).join(", ");
  if (names.length) return [names.join(", "), rest];
  return [rest || null, rest ? "no GPU" : null];
}
