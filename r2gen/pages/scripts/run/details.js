// The parameters, the provenance and the configuration of a run.
function showDetails() {
  const git = run.git || {};
  const header = data.studies?.header || {};
  const revision = git.revision ? `${git.revision}${git.dirty ? ", with uncommitted changes" : ""}` : null;
  const provenance = [
    ["Folder", data.folder],
    ["Code", revision],
    ["Overrides", (run.overrides || []).join(" ") || "none: all defaults"],
    ...(run.start ? [["Started from", run.start]] : []),
    ["Data hash", run.data_hash],
    ["Identity", run.identity],
    ["Run format", run.format],
    ...Object.entries(run.versions || {}),
  ];
  const generated = Object.keys(header).length
    ? panel(h("h3", "How the reports above were generated"), pairs(Object.entries(header)))
    : "";
  const configuration = h("pre", { tabindex: "0" }, data.config);
  section("details").append(
    heading("details", "Run and configuration"),
    h(
      "div.two",
      h("div", panel(h("h3", "Parameters"), parameterTable()), generated),
      panel(h("h3", "Provenance"), pairs(provenance)),
    ),
    h("div.panel.after", folded("Resolved configuration (config.yaml)", configuration)),
  );
}

function parameterTable() {
  const parts = run.parameters || [];
  if (!parts.length) return h("p.soft", "The model had not been built when this page was written.");
  const row = (name, { total, trainable }) => [name, grouped(total), grouped(trainable), share(trainable, total)];
  const rows = parts.map((part) => row(part.part, part));
  const columns = ["Part", "Parameters", "Trainable", "Share"];
  return plainTable("Parameters", columns, rows, [row("All", parameterSums())]);
}
