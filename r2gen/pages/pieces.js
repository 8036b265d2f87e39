// Elements that all pages are built from.
// All text is set through text nodes, so a report, name or path is never parsed as HTML.
const data = JSON.parse(document.getElementById("data").textContent);
const SVG = document.getElementById("seed").namespaceURI;

// -------------------------------------------------------------------------------------------------------- elements
function make(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}
function h(tag, attributes, ...children) { return make(document.createElement(tag), attributes, children); }
function s(tag, attributes, ...children) { return make(document.createElementNS(SVG, tag), attributes, children); }
function byId(id) { return document.getElementById(id); }
function isNumber(value) { return typeof value === "number" && Number.isFinite(value); }

function score(value) { return isNumber(value) ? value.toFixed(3) : "–"; }
function grouped(value) { return isNumber(value) ? value.toLocaleString("en-US") : "–"; }
function plural(count, one, many) { return `${grouped(count)} ${count === 1 ? one : many}`; }
function amount(value) {
  for (const [unit, size] of [["B", 1e9], ["M", 1e6], ["k", 1e3]]) {
    if (value >= size) return `${Number((value / size).toPrecision(3))} ${unit}`;
  }
  return String(value);
}
function share(part, whole) {
  if (!whole) return "–";
  const percent = 100 * part / whole;
  return percent === 0 || percent === 100 ? `${percent}\u00a0%` : `${Number(percent.toPrecision(percent < 1 ? 1 : 3))}\u00a0%`;
}
function reading(value) {
  if (!isNumber(value)) return "NaN or infinity";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e6) return value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
  return size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : size >= 1 ? value.toFixed(2) : value.toPrecision(3);
}
function duration(seconds) {
  if (!isNumber(seconds)) return "–";
  if (seconds < 1) return `${seconds.toFixed(2)} s`;
  const total = Math.round(seconds), hours = Math.floor(total / 3600), minutes = Math.floor(total / 60) % 60;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${total % 60} s` : `${total} s`;
}
function moment(text) {
  const found = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d)[\d:.]*(Z|[+-]\d\d:?\d\d)?$/.exec(text || "");
  if (!found) return text || "–";
  const zone = !found[3] ? "" : found[3] === "Z" || /^[+-]00:?00$/.test(found[3]) ? " UTC" : ` ${found[3]}`;
  return `${found[1]} ${found[2]}${zone}`;
}
function section(id) {
  const host = h("section", { id, "aria-labelledby": `${id}-title` });
  document.querySelector("main").append(host);
  return host;
}
function heading(id, title, ...beside) {
  return h("div", { class: "heading" }, h("h2", { id: `${id}-title` }, title), ...beside);
}
function scrolling(name, table) { return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": name }, table); }
function empty(text) { return h("p", { class: "panel empty" }, text); }

// Draw when the element's width changes, and before and after printing (look.printing).
const look = { smooth: true, log: false, printing: false };
const drawings = [];
function onWidth(element, draw) {
  let width = -1;
  drawings.push(draw);
  new ResizeObserver(() => { if (element.clientWidth !== width) { width = element.clientWidth; requestAnimationFrame(draw); } }).observe(element);
}
for (const [event, printing] of [["beforeprint", true], ["afterprint", false]]) addEventListener(event, () => { look.printing = printing; drawings.forEach((draw) => draw()); });

function showFooter() {
  byId("footer").append(`Written by R2Gen on ${moment(data.written)}. This file is self-contained and loads nothing from the network. It contains patient text.`);
}
function navigation(parts) {
  return h("nav", { "aria-label": "Parts of the page" }, ...parts.map(([id, label]) => h("a", { href: `#${id}` }, label)));
}
// A select element with a label; `options` are [value, text].
function picker(label, options, chosen, change) {
  return h("label", { class: "pair" }, label, h("select", { onchange: (event) => change(event.target.value) }, ...options.map(([value, text]) => h("option", { value, selected: value === chosen }, text))));
}
function copyButton(text) {
  const button = h("button", { type: "button", onclick: async () => {
    let done = true;
    try { await navigator.clipboard.writeText(text); } catch { done = copyBySelection(text); }
    button.textContent = done ? "Copied" : "Not copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1600);
  } }, "Copy");
  button.setAttribute("aria-label", "Copy the command");
  return button;
}
function copyBySelection(text) {
  const area = h("textarea", { class: "unseen", readonly: true });
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}
function fact(label, value, note) {
  if (value === null || value === undefined || value === "") return null;
  return h("div", {}, h("dt", {}, label), h("dd", {}, value, note ? h("div", { class: "small soft" }, note) : null));
}
function switchBox(label, checked, change) {
  return h("label", { class: "switch" }, h("input", { type: "checkbox", checked, onchange: (event) => change(event.target.checked) }), label);
}
function pairs(entries) {
  return h("dl", { class: "pairs" }, ...entries.filter(([, value]) => value !== null && value !== undefined && value !== "").flatMap(([name, value]) =>
    [h("dt", {}, name), h("dd", { class: "mono" }, typeof value === "object" ? JSON.stringify(value) : String(value))]));
}
