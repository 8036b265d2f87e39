// Dot plots: values with their intervals on one scale, and a symbol for each system.
const SHAPES = [
  "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0Z",
  "M-3.6-3.6h7.2v7.2h-7.2Z",
  "M0-4.6l4.4 8h-8.8Z",
  "M0-5l4.4 5-4.4 5-4.4-5Z",
  "M0 4.6l4.4-8h-8.8Z",
];

function symbol(x, y, index, hollow = false) {
  const colour = `var(--c${index % 8})`;
  return s("path", {
    d: SHAPES[(index + Math.floor(index / 8)) % SHAPES.length],
    transform: `translate(${x} ${y})`,
    fill: hollow ? "var(--panel)" : colour,
    stroke: colour,
    "stroke-width": 1.5,
  });
}

// Buttons that show or hide a system. `systems` are { name, hollow }; `shown` is the set of names that is changed.
function systemKey(systems, shown, change) {
  return h("div.legend", ...systems.map(({ name, hollow }, index) => systemButton(name, hollow, index, shown, change)));
}

function systemButton(name, hollow, index, shown, change) {
  const toggle = () => {
    if (shown.has(name)) shown.delete(name);
    else shown.add(name);
    key.setAttribute("aria-pressed", shown.has(name));
    change();
  };
  const attributes = {
    type: "button",
    "aria-pressed": String(shown.has(name)),
    title: "Show or hide",
    onclick: toggle,
  };
  const sample = s("svg", { width: 14, height: 12, "aria-hidden": "true" }, symbol(7, 6, index, hollow));
  const key = h("button", attributes, sample, h("span.label", name));
  return key;
}

function shortened(text, width) {
  const letters = Math.max(4, Math.floor(width / 7));
  return text.length > letters ? `${text.slice(0, letters - 1)}…` : text;
}

// A dot plot with a row for each entry { label, note, values } of rows(). A value is { value, low, high, index, hollow,
// title }.
// `middle` is a value at which a vertical line is drawn, such as 0 for differences.
function dotPlot(name, rows, { middle = null, axis = "" } = {}) {
  const plot = s("svg.plot", { role: "img", "aria-label": name });
  const host = h("div", plot);
  const draw = () => {
    const shown = rows().filter((row) => row.values.length);
    const width = look.printing ? 640 : Math.max(260, host.clientWidth);
    const labels = Math.min(230, width * 0.36);
    const notes = shown.some((row) => row.note) ? Math.min(130, width * 0.26) : 14;
    const [low, high] = plotSpan(shown, middle);
    const x = (value) => labels + 8 + ((value - low) / (high - low)) * (width - labels - notes - 16);
    const drawn = [];
    let y = 12;
    for (const row of shown) {
      const height = 12 * row.values.length + 8;
      drawn.push(...dotPlotRow(row, { x, y, width, height, labels }));
      y += height;
    }
    const rules = ticks(low, high, width > 600 ? 7 : 4).flatMap((tick) => [
      s(tick === middle ? "line.axis" : "line.grid", { x1: x(tick), x2: x(tick), y1: 8, y2: y }),
      s("text", { x: x(tick), y: y + 15, "text-anchor": "middle" }, tickText(tick)),
    ]);
    const caption = s("text", { x: x(high), y: y + 30, "text-anchor": "end" }, shown.length ? axis : "nothing to show");
    plot.setAttribute("viewBox", `0 0 ${width} ${y + 34}`);
    plot.replaceChildren(...rules, ...drawn, caption);
  };
  onWidth(host, draw);
  return { host, draw };
}

function dotPlotRow(row, { x, y, width, height, labels }) {
  const text = { y: y + height / 2 + 4, "text-anchor": "end" };
  return [
    s("line.grid", { x1: 0, x2: width, y1: y + height, y2: y + height }),
    s("text.row-label", { x: labels - 4, ...text }, s("title", row.label), shortened(row.label, labels)),
    ...(row.note ? [s("text", { x: width, ...text }, row.note)] : []),
    ...row.values.map((one, index) => valueWithInterval(one, x, y + 10 + 12 * index)),
  ];
}

function valueWithInterval(one, x, y) {
  const group = s("g", s("title", one.title));
  if (isNumber(one.low)) {
    const stroke = `var(--c${one.index % 8})`;
    group.append(s("line", { x1: x(one.low), x2: x(one.high), y1: y, y2: y, stroke, "stroke-width": 2 }));
  }
  group.append(symbol(x(one.value), y, one.index, one.hollow));
  return group;
}

// The lowest and the highest value of the axis.
function plotSpan(rows, middle) {
  const values = rows.flatMap((row) => row.values).flatMap((one) => [one.low, one.value, one.high]);
  const numbers = [...values, middle].filter(isNumber);
  if (!numbers.length) return [0, 1];
  const [low, high] = axisEnds(numbers);
  const margin = (high - low) * 0.04;
  return [low - margin, high + margin];
}
