// Dot plots: values with their intervals on one scale, and a symbol for each system.
const SHAPES = ["M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0Z", "M-3.6-3.6h7.2v7.2h-7.2Z", "M0-4.6l4.4 8h-8.8Z", "M0-5l4.4 5-4.4 5-4.4-5Z", "M0 4.6l4.4-8h-8.8Z"];
function symbol(x, y, index, hollow = false) {
  const colour = `var(--c${index % 8})`;
  return s("path", { d: SHAPES[(index + Math.floor(index / 8)) % SHAPES.length], transform: `translate(${x} ${y})`, fill: hollow ? "var(--panel)" : colour, stroke: colour, "stroke-width": 1.5 });
}
// Buttons that show or hide a system. `systems` are { name, hollow }; each button adds its name to the set `shown` or removes it.
function systemKey(systems, shown, change) {
  return h("div", { class: "legend" }, ...systems.map(({ name, hollow }, index) => {
    const button = h("button", { type: "button", "aria-pressed": String(shown.has(name)), title: "Show or hide", onclick: () => {
      if (shown.has(name)) shown.delete(name); else shown.add(name);
      button.setAttribute("aria-pressed", shown.has(name));
      change();
    } }, s("svg", { width: 14, height: 12, "aria-hidden": "true" }, symbol(7, 6, index, hollow)), h("span", { class: "label" }, name));
    return button;
  }));
}
function shortened(text, width) {
  const letters = Math.max(4, Math.floor(width / 7));
  return text.length > letters ? `${text.slice(0, letters - 1)}…` : text;
}
// A dot plot with a row for each entry of rows(): { label, note, values: [{ value, low, high, index, hollow, title }] }.
// `middle` is a value at which a vertical line is drawn, such as 0 for differences.
function dotPlot(name, rows, { middle = null, axis = "" } = {}) {
  const plot = s("svg", { class: "plot", role: "img", "aria-label": name });
  const host = h("div", {}, plot);
  const draw = () => {
    const all = rows().filter((row) => row.values.length), width = look.printing ? 640 : Math.max(260, host.clientWidth);
    const span = plotSpan(all, middle), labels = Math.min(230, width * .36), notes = all.some((row) => row.note) ? Math.min(130, width * .26) : 14;
    const at = (value) => labels + 8 + (value - span[0]) / (span[1] - span[0]) * (width - labels - notes - 16);
    const drawn = [];
    let y = 12;
    for (const row of all) {
      const high = 12 * row.values.length + 8, centre = y + high / 2;
      drawn.push(s("line", { class: "grid", x1: 0, x2: width, y1: y + high, y2: y + high }),
        s("text", { class: "row-label", x: labels - 4, y: centre + 4, "text-anchor": "end" }, s("title", {}, row.label), shortened(row.label, labels)));
      if (row.note) drawn.push(s("text", { x: width, y: centre + 4, "text-anchor": "end" }, row.note));
      row.values.forEach((one, index) => drawn.push(valueWithInterval(one, y + 10 + 12 * index, at)));
      y += high;
    }
    const rules = ticks(span[0], span[1], width > 600 ? 7 : 4).map((tick) => [
      s("line", { class: tick === middle ? "axis" : "grid", x1: at(tick), x2: at(tick), y1: 8, y2: y }), s("text", { x: at(tick), y: y + 15, "text-anchor": "middle" }, tickText(tick))]);
    plot.setAttribute("viewBox", `0 0 ${width} ${y + 34}`);
    plot.replaceChildren(...rules.flat(), ...drawn, s("text", { x: at(span[1]), y: y + 30, "text-anchor": "end" }, all.length ? axis : "nothing to show"));
  };
  onWidth(host, draw);
  return { host, draw };
}
function valueWithInterval(one, y, at) {
  const group = s("g", {}, s("title", {}, one.title));
  if (isNumber(one.low)) group.append(s("line", { x1: at(one.low), x2: at(one.high), y1: y, y2: y, stroke: `var(--c${one.index % 8})`, "stroke-width": 2 }));
  group.append(symbol(at(one.value), y, one.index, one.hollow));
  return group;
}
function plotSpan(rows, middle) {
  const values = rows.flatMap((row) => row.values).flatMap((one) => [one.low, one.value, one.high]).filter(isNumber).concat(middle === null ? [] : [middle]);
  const low = Math.min(...values, Infinity), high = Math.max(...values, -Infinity), room = (high - low) * .04;
  return high > low ? [low - room, high + room] : Number.isFinite(low) ? [low - .5, low + .5] : [0, 1];
}
