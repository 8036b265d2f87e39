// The page of a sweep, or of any set of runs (r2gen/sweeps/page.py).
const rows = data.rows, columns = data.columns, splits = Object.keys(data.splits);
const COSTS = { device_seconds: "Device seconds", total_seconds: "Total seconds", peak_memory_gib: "Peak memory, GiB", trainable: "Trainable parameters", parameters: "Parameters" };
const state = { split: splits.includes("test") ? "test" : splits[0], joined: false, by: columns.find((column) => column !== "seed") || columns[0] || "", left: {}, wanted: "",
  sort: null, falling: true, cost: data.costs[0], log: false, study: 0 };
state.score = firstScore();
const views = []; // each draws one part of the page from `state`
function firstScore() { const found = data.splits[state.split] || []; return ["cider", "bleu_4"].find((key) => found.includes(key)) || found[0]; }
function refresh() { views.forEach((view) => view()); }
function set(key) { return (value) => { state[key] = value; refresh(); }; }

function natural(one, other) { return String(one).localeCompare(String(other), "en", { numeric: true }); }
function byNumber(one, other) { return Number(one) - Number(other) || natural(one, other); }
function valuesOf(column) {
  const found = [...new Set(rows.map((row) => row.choices[column]))];
  return found.sort(found.every((value) => value.trim() !== "" && Number.isFinite(Number(value))) ? byNumber : natural);
}
function passes(choices) { return columns.every((column) => !(column in choices) || !(state.left[column] || new Set()).has(choices[column])); }
function meanCost(names) {
  const of = rows.filter((row) => names.includes(row.name)).map((row) => row.cost);
  return Object.fromEntries(data.costs.map((cost) => { const known = of.map((one) => one[cost]).filter(isNumber); return [cost, known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null]; }));
}
const meanRows = data.joined.map((one) => ({ ...one, name: Object.entries(one.choices).map(([column, value]) => `${column}=${value}`).join(" ") || "all", state: "done", cost: meanCost(one.rows), note: `seeds ${one.seeds.join(", ")}` }));
function shownRows() { return rows.filter((row) => passes(row.choices) && `${row.name} ${row.reason || ""}`.toLowerCase().includes(state.wanted)); }
// The rows of score tables and plots: runs, or means over their seeds.
function scoredRows() {
  const runs = new Set(shownRows().map((row) => row.name));
  return state.joined ? meanRows.filter((row) => row.rows.some((name) => runs.has(name))) : shownRows();
}
function scoreOf(row, key) { return ((row.scores[state.split] || {})[key]) || null; }
function colour(row) { return `var(--c${colourIndex(row)})`; }
function colourIndex(row) { return state.by in row.choices ? valuesOf(state.by).indexOf(row.choices[state.by]) % 8 : 5; }
function costText(key, value) { return !isNumber(value) ? "–" : key.endsWith("parameters") || key === "trainable" ? amount(value) : reading(value); }
function summary(row) {
  const one = scoreOf(row, state.score);
  return `${row.name}${one ? `: ${metricName(state.score)} ${score(one.value)} (${range(one)})` : ""}`;
}

// -------------------------------------------------------------------------------------------------------- masthead
const STATES = { done: "finished", failed: "failed", skipped: "stopped", stopped: "stopped", running: "running", waiting: "stopped" };
function stateBadge(word) { return h("span", { class: `badge ${STATES[word] || "stopped"}` }, word); }
function showMasthead() {
  const counts = [...new Set(rows.map((row) => row.state))].map((word) => [word, rows.filter((row) => row.state === word).length]);
  byId("masthead").append(h("p", { class: "eyebrow" }, "R2Gen · sweep"),
    h("div", { class: "name" }, h("h1", {}, data.title), ...counts.map(([word, count]) => h("span", { class: `badge ${STATES[word] || "stopped"}` }, `${count} ${word}`))),
    h("p", { class: "soft small" }, `${plural(rows.length, "job", "jobs")}. Page written ${moment(data.written)}.`),
    data.command ? h("div", { class: "command" }, h("code", { tabindex: "0" }, data.command), copyButton(data.command)) : "",
    Object.keys(data.shared).length ? h("dl", { class: "facts" }, ...Object.entries(data.shared).map(([group, option]) => fact(group, option))) : "",
    navigation([["runs", "Runs"], ["parallel", "Parallel coordinates"], ["cost", "Quality and cost"], ["curves", "Curves"], ["studies", "Studies"]]));
}

// ------------------------------------------------------------------------------------------------ controls and table
function showControls(host) {
  const count = h("span", { class: "count", role: "status" });
  const scorePicker = h("select", { "aria-label": "Score", onchange: (event) => set("score")(event.target.value) });
  const fill = () => scorePicker.replaceChildren(...(data.splits[state.split] || []).map((key) => h("option", { value: key, selected: key === state.score }, metricName(key))));
  fill();
  host.append(h("div", { class: "panel controls", role: "search" },
    h("input", { type: "search", placeholder: "Filter by name or reason", "aria-label": "Filter runs", oninput: (event) => set("wanted")(event.target.value.trim().toLowerCase()) }),
    ...columns.map(choiceFilter),
    picker("Split", splits.map((split) => [split, splitName(split)]), state.split, (split) => { state.split = split; if (!data.splits[split].includes(state.score)) state.score = firstScore(); fill(); refresh(); }),
    h("label", { class: "pair" }, "Score", scorePicker), picker("Colour by", columns.map((column) => [column, column]), state.by, set("by")),
    meanRows.length ? switchBox("Mean over seeds", false, set("joined")) : "", count));
  views.push(() => { count.textContent = `${shownRows().length} of ${plural(rows.length, "run", "runs")} shown`; });
}
// A filter of one column: a checkbox for each of its values.
function choiceFilter(column) {
  const label = h("summary", {}, `${column}: all`), left = state.left[column] = new Set(), values = valuesOf(column);
  const change = (value) => (on) => {
    if (on) left.delete(value); else left.add(value);
    label.textContent = `${column}: ${left.size ? `${values.length - left.size} of ${values.length}` : "all"}`;
    refresh();
  };
  return h("details", { class: "filter" }, label, h("div", { class: "panel options" }, ...values.map((value) => switchBox(value, true, change(value)))));
}
function sortValue(row, key) {
  if (key.startsWith("choice:")) return valuesOf(key.slice(7)).indexOf(row.choices[key.slice(7)]);
  return key.startsWith("cost:") ? row.cost[key.slice(5)] : scoreOf(row, key)?.value ?? null;
}
function sorted(all) {
  const key = state.sort || state.score, value = (row) => (key ? sortValue(row, key) : null);
  const known = all.filter((row) => value(row) !== null && value(row) !== undefined), rest = all.filter((row) => !known.includes(row));
  return [...known.sort((one, other) => (state.falling ? -1 : 1) * (value(one) - value(other))), ...rest];
}
function headCell(key, text) {
  const is = (state.sort || state.score) === key;
  return h("th", { scope: "col", class: key.startsWith("choice:") ? "choice" : null, "aria-sort": is ? (state.falling ? "descending" : "ascending") : null }, h("button", { type: "button", class: "sort", title: "Sort", onclick: () => {
    state.falling = is ? !state.falling : !key.startsWith("choice:") && !lowerIsBetter(key);
    state.sort = key;
    refresh();
  } }, text, is ? (state.falling ? " ↓" : " ↑") : ""));
}
function showRuns() {
  const host = section("runs"), panel = h("div", { class: "panel" });
  host.append(heading("runs", "Runs"));
  showControls(host);
  if (!data.alike) host.append(h("p", { class: "reason stopped" }, "These runs were not all scored in the same way: the recipes or signatures in their metrics.json differ, so their scores cannot be compared. Score the runs again with task=evaluate."));
  host.append(panel);
  views.push(() => {
    const all = sorted(scoredRows()), keys = data.splits[state.split] || [], shown = state.joined ? columns.filter((column) => column !== "seed") : columns;
    const ends = Object.fromEntries(keys.map((key) => [key, spanOf(all.map((row) => scoreOf(row, key)))]));
    const best = Object.fromEntries(keys.map((key) => [key, bestOf(key, all.map((row) => scoreOf(row, key)?.value))]));
    const table = scrolling("Runs", h("table", { class: "scores runs" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, state.joined ? "Seeds" : "Run"), ...shown.map((column) => headCell(`choice:${column}`, column)), ...keys.map((key) => headCell(key, metricName(key))), ...data.costs.map((cost) => headCell(`cost:${cost}`, COSTS[cost])))),
      h("tbody", {}, ...all.map((row) => h("tr", {}, h("th", { scope: "row" }, row.link ? h("a", { href: row.link }, row.note || "report") : row.state === "done" ? row.note || "done" : stateBadge(row.state)),
        ...shown.map((column) => h("td", { class: "choice" }, column === state.by ? h("span", { class: "dot", "aria-hidden": "true" }, dot(row)) : "", row.choices[column])),
        ...(Object.keys(row.scores).length || !row.reason ? keys.map((key) => { const one = scoreOf(row, key); return h("td", { class: one && one.value.toFixed(3) === best[key].toFixed(3) ? "best" : null }, score(one?.value), intervalLine(one, ends[key])); })
          : [h("td", { class: "why", colspan: Math.max(1, keys.length) }, row.reason)]),
        ...data.costs.map((cost) => h("td", {}, costText(cost, row.cost[cost]))))))));
    table.classList.add("tall");
    panel.replaceChildren(table, h("p", { class: "small soft" }, state.joined ? "Below each mean is its 95 % Student interval over seeds; a single seed has none. Costs are means over seeds." : "Below each score is its 95 % interval over studies; the intervals of a column share one scale. Device seconds: training time multiplied by the number of ranks."));
  });
}
function dot(row) { return s("svg", { width: 10, height: 10, viewBox: "0 0 10 10" }, s("circle", { cx: 5, cy: 5, r: 4, fill: colour(row) })); }
function colourKey() {
  const key = h("p", { class: "key" });
  views.push(() => key.replaceChildren(...(columns.length ? valuesOf(state.by).map((value) => h("span", {}, dot({ choices: { [state.by]: value } }), ` ${state.by}=${value}`)) : [])));
  return key;
}

// -------------------------------------------------------------------------------------------- parallel coordinates
function parallelAxes(all) {
  const numeric = (label, of, text) => {
    const found = all.map(of).filter(isNumber), low = Math.min(...found), high = Math.max(...found);
    return { label, of: (row) => { const value = of(row); return isNumber(value) ? (high > low ? (value - low) / (high - low) : .5) : null; },
      ticks: found.length ? [...new Set([low, (low + high) / 2, high])].map((value) => [high > low ? (value - low) / (high - low) : .5, text(value)]) : [] };
  };
  const chosen = columns.filter((column) => !state.joined || column !== "seed").map((column) => {
    const values = valuesOf(column), at = (value) => (values.length > 1 ? values.indexOf(value) / (values.length - 1) : .5);
    return { label: column, of: (row) => at(row.choices[column]), ticks: values.map((value) => [at(value), value]) };
  });
  return [...chosen, ...data.costs.filter((cost) => cost !== "total_seconds" && cost !== "parameters").map((cost) => numeric(COSTS[cost], (row) => row.cost[cost], (value) => costText(cost, value))),
    ...(data.splits[state.split] || []).filter((key) => key === state.score || ["bleu_4", "rouge_l", "cider"].includes(key)).map((key) => numeric(metricName(key), (row) => scoreOf(row, key)?.value, (value) => value.toFixed(3)))];
}
function showParallel() {
  const plot = s("svg", { class: "plot wide", role: "img", "aria-label": "Parallel coordinates: one line per run" }), host = h("div", { class: "scroll", tabindex: "0" }, plot), readout = h("p", { class: "small soft readout", role: "status" }, "Point at a line to see its run and score.");
  section("parallel").append(heading("parallel", "Parallel coordinates"), h("div", { class: "panel" }, colourKey(), readout, host));
  const draw = () => {
    const all = scoredRows().filter((row) => Object.keys(row.scores).length), axes = parallelAxes(all), height = 300, top = 36, bottom = height - 14;
    const width = look.printing ? 660 : Math.max(host.clientWidth - 36, 86 * axes.length + 80), x = (index) => 50 + index * (width - 110) / Math.max(1, axes.length - 1), y = (share) => bottom - share * (bottom - top);
    const lines = all.map((row) => {
      const points = axes.map((axis, index) => [x(index), axis.of(row)]).filter(([, share]) => isNumber(share));
      const line = s("path", { class: "run-line", d: points.map(([left, share], index) => `${index ? "L" : "M"}${left.toFixed(1)} ${y(share).toFixed(1)}`).join(""), stroke: colour(row) }, s("title", {}, summary(row)));
      line.addEventListener("pointerenter", () => { readout.textContent = summary(row); });
      return line;
    });
    plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
    plot.style.width = `${width}px`;
    plot.replaceChildren(...axes.map((axis, index) => s("line", { class: "axis", x1: x(index), x2: x(index), y1: top, y2: bottom })), ...lines, ...axes.flatMap((axis, index) => [
      s("text", { class: "row-label", x: x(index), y: 15 + 14 * (index % 2), "text-anchor": "middle" }, s("title", {}, axis.label), shortened(axis.label, 150)),
      ...axis.ticks.map(([share, text]) => s("text", { class: "halo", x: x(index) + 5, y: y(share) + 4 }, shortened(String(text), 90)))]));
  };
  onWidth(host, draw);
  views.push(draw);
}

// ------------------------------------------------------------------------------------------------ quality and cost
// The Pareto front, cheapest first: the rows for which no other row is both cheaper and better.
function front(all, cost) {
  let best = -Infinity;
  const quality = (row) => gain(state.score, scoreOf(row, state.score).value);
  return [...all].sort((one, other) => one.cost[cost] - other.cost[cost] || quality(other) - quality(one))
    .filter((row) => { if (quality(row) <= best) return false; best = quality(row); return true; });
}
function showCost() {
  const page = section("cost");
  if (!data.costs.length || !splits.length) { page.append(heading("cost", "Quality and cost"), empty("No run has both a recorded cost and a score.")); return; }
  const plot = s("svg", { class: "plot", role: "img", "aria-label": "Score against cost, with the Pareto front" }), host = h("div", {}, plot), readout = h("p", { class: "small soft readout", role: "status" }), list = h("ol", { class: "small front" });
  page.append(heading("cost", "Quality and cost", h("span", {}, picker("Cost", data.costs.map((cost) => [cost, COSTS[cost]]), state.cost, set("cost")), " ", switchBox("Log cost", false, set("log")))),
    h("div", { class: "panel" }, colourKey(), readout, host, h("p", { class: "small" }, "Pareto front, cheapest first: no run shown is both cheaper and better. A step between two runs whose intervals overlap may be noise."), list));
  const draw = () => {
    const all = scoredRows().filter((row) => scoreOf(row, state.score) && isNumber(row.cost[state.cost])), width = look.printing ? 640 : Math.max(260, host.clientWidth), height = 340;
    const bend = state.log ? (value) => Math.log10(Math.max(value, 1e-9)) : (value) => value, spread = (values, room) => { const low = Math.min(...values), high = Math.max(...values), more = (high - low || Math.abs(high) || 1) * room; return [low - more, high + more]; };
    readout.textContent = all.length ? "Point at a run to see its score and cost." : "None of the runs shown has both this score and this cost.";
    list.replaceChildren();
    plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
    plot.replaceChildren();
    if (!all.length) return;
    const [left, right] = spread(all.map((row) => bend(row.cost[state.cost])), .06), [low, high] = spread(all.flatMap((row) => { const one = scoreOf(row, state.score); return [one.value, one.low, one.high].filter(isNumber); }), .06);
    const x = (value) => 52 + (bend(value) - left) / (right - left) * (width - 72), y = (value) => height - 44 - (value - low) / (high - low) * (height - 60);
    const costs = state.log ? logTicks(Math.pow(10, left), Math.pow(10, right)) : ticks(left, right, width > 600 ? 7 : 4), best = front(all, state.cost);
    plot.append(...ticks(low, high, 5).flatMap((tick) => [s("line", { class: "grid", x1: 52, x2: width - 20, y1: y(tick), y2: y(tick) }), s("text", { x: 45, y: y(tick) + 4, "text-anchor": "end" }, tickText(tick))]),
      ...costs.map((tick) => s("text", { x: x(tick), y: height - 26, "text-anchor": "middle" }, costText(state.cost, tick))), s("line", { class: "axis", x1: 52, x2: width - 20, y1: height - 44, y2: height - 44 }),
      s("text", { x: width - 20, y: height - 8, "text-anchor": "end" }, `${COSTS[state.cost]}${state.log ? " (log)" : ""}`), s("text", { x: 52, y: 10 }, metricName(state.score)),
      s("path", { class: "pareto", d: best.map((row, index) => { const at = `${x(row.cost[state.cost]).toFixed(1)} `, up = y(scoreOf(row, state.score).value).toFixed(1); return index ? `H${at}V${up}` : `M${at}${up}`; }).join("") + `H${width - 20}` }),
      ...all.map((row) => {
        const one = scoreOf(row, state.score), at = x(row.cost[state.cost]), text = `${summary(row)}, ${COSTS[state.cost].toLowerCase()} ${costText(state.cost, row.cost[state.cost])}`;
        const group = s("g", {}, s("title", {}, text), isNumber(one.low) ? s("line", { x1: at, x2: at, y1: y(one.low), y2: y(one.high), stroke: colour(row), "stroke-width": 1.2, opacity: .6 }) : "", s("circle", { cx: at, cy: y(one.value), r: 5, fill: best.includes(row) ? colour(row) : "var(--panel)", stroke: colour(row), "stroke-width": 2 }));
        group.addEventListener("pointerenter", () => { readout.textContent = text; });
        return group;
      }));
    list.replaceChildren(...best.map((row) => h("li", {}, `${summary(row)}, ${COSTS[state.cost].toLowerCase()} ${costText(state.cost, row.cost[state.cost])}`)));
  };
  onWidth(host, draw);
  views.push(draw);
}

// ---------------------------------------------------------------------------------------------------------- curves
function showCurves() {
  const host = section("curves"), logged = rows.filter((row) => row.losses.length);
  if (!logged.length) { host.append(heading("curves", "Curves"), empty("No run has recorded a training step.")); return; }
  const named = h("span", {}), asRow = ([step, value]) => ({ step, value });
  new Chart("Training loss", logged.map((row) => ({ row, ...series(row.name, row.losses.map(asRow), (one) => one.value) })), { smooth: true, named: false });
  const scores = new Chart("Validation score", logged.map((row) => ({ row, ...series(row.name, [], () => null) })), { named: false });
  host.append(heading("curves", "Curves", chartSwitches()), colourKey(), h("p", { class: "small soft" }, "Validation score during training: ", named, ". Point at a curve to see its run."), chartGrid());
  views.push(() => {
    const shown = new Set(shownRows().map((row) => row.name));
    named.textContent = metricName(state.score || "");
    for (const one of scores.all) one.points = one.row.validations.map(([step, found]) => ({ x: step, y: found[state.score] ?? null })).filter((point) => point.y !== null);
    for (const chart of charts) for (const one of chart.all) { one.shown = shown.has(one.row.name); one.colour = colour(one.row); }
    drawCharts();
  });
}

// --------------------------------------------------------------------------------------------------------- studies
function showStudies() {
  const host = section("studies"), studies = data.studies;
  if (!studies.length) { host.append(heading("studies", "Studies"), empty("No run has reports to show.")); return; }
  const card = h("div", { class: studies.some((row) => row.images.length > 1) ? "pairs-of-images" : null });
  const choose = h("select", { "aria-label": "Study", onchange: (event) => set("study")(Number(event.target.value)) }, ...studies.map((row, index) => h("option", { value: index }, `${row.id}, ${splitName(row.split).toLowerCase()}`)));
  const step = (by) => () => { set("study")((state.study + by + studies.length) % studies.length); choose.value = state.study; };
  host.append(heading("studies", "One study in every run"), h("p", { class: "key" }, h("span", {}, h("ins", {}, "underlined"), " not in the reference")),
    h("div", { class: "panel controls" }, h("button", { type: "button", onclick: step(-1) }, "Previous"), h("span", { class: "pair" }, choose), h("button", { type: "button", onclick: step(1) }, "Next"), h("span", { class: "count" }, "filtered and sorted like the runs above")), card);
  views.push(() => {
    const study = studies[state.study], names = sorted(shownRows()).map((row) => row.name).filter((name) => study.reports[name] !== undefined);
    card.replaceChildren(manyTexts(study, names, `${plural(names.length, "run", "runs")}`));
  });
}

showMasthead();
showRuns();
showParallel();
showCost();
showCurves();
showStudies();
refresh();
showFooter();
