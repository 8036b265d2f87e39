// The elements that all pages are built from.
// All text is set through text nodes, so a report, name or path is never parsed as HTML.
const data = JSON.parse(document.getElementById("data").textContent);
const SVG = document.getElementById("seed").namespaceURI;

// ---------------------------------------------------------------------------------------------------- making elements
// An HTML element: h("p.small.soft", { title: "..." }, "text", child). The attributes may be left out.
function h(selector, ...rest) {
  const [tag, ...classes] = selector.split(".");
  return filled(document.createElement(tag), classes, rest);
}

// An SVG element, likewise.
function s(selector, ...rest) {
  const [tag, ...classes] = selector.split(".");
  return filled(document.createElementNS(SVG, tag), classes, rest);
}

function filled(node, classes, rest) {
  const [attributes, ...children] = isAttributes(rest[0]) ? rest : [{}, ...rest];
  if (classes.length) node.setAttribute("class", classes.join(" "));
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

function isAttributes(value) {
  return value !== null && typeof value === "object" && Object.getPrototypeOf(value) === Object.prototype;
}

function byId(id) {
  return document.getElementById(id);
}

// ----------------------------------------------------------------------------------------------------- parts of a page
function section(id) {
  const host = h("section", { id, "aria-labelledby": `${id}-title` });
  document.querySelector("main").append(host);
  return host;
}

function heading(id, title, ...extras) {
  return h("div.heading", h("h2", { id: `${id}-title` }, title), ...extras);
}

function navigationBar(parts) {
  const links = Object.entries(parts).map(([id, label]) => h("a", { href: `#${id}` }, label));
  return h("nav", { "aria-label": "Parts of the page" }, ...links);
}

// Links to the pages of the index, and of sweeps and comparisons.
function pageLinks(links) {
  if (!links?.length) return "";
  return h("p.small.links", ...links.map(({ label, href }) => h("a", { href }, label)));
}

// Remove the links to parts that the page does not have.
function checkNavigation() {
  for (const link of [...document.querySelectorAll("nav a")]) {
    if (!document.querySelector(link.getAttribute("href"))) link.remove();
  }
}

function panel(...children) {
  return h("div.panel", ...children);
}

function note(...children) {
  return h("p.small.soft", ...children);
}

function headingNote(text) {
  return h("span.soft.small", text);
}

function empty(text) {
  return h("p.panel.empty", text);
}

function folded(title, ...children) {
  return h("details", h("summary", title), ...children);
}

// A region that scrolls, with a shade at the sides that hide something and a line that says so.
function scrolling(name, table, kind = "scroll") {
  const host = h("div", { class: kind, tabindex: "0", role: "region", "aria-label": name }, table);
  const hint = h("p.hint.small.soft", { hidden: true, "aria-hidden": "true" }, "scroll sideways for more →");
  const mark = () => {
    const hidden = host.scrollWidth - host.clientWidth;
    host.setAttribute("data-left", hidden > 1 && host.scrollLeft > 1);
    host.setAttribute("data-right", hidden > 1 && host.scrollLeft < hidden - 1);
    hint.hidden = !(hidden > 1);
  };
  host.addEventListener("scroll", mark);
  onWidth(host, mark);
  return h("div", host, hint);
}

// A table of texts in a scrolling region. The first cell of a row is its header.
function plainTable(name, columns, rows, foot = []) {
  const row = ([head, ...cells]) => h("tr", h("th", { scope: "row" }, head), ...cells.map((one) => h("td", one)));
  const table = h("table", tableHead(columns), h("tbody", ...rows.map(row)));
  if (foot.length) table.append(h("tfoot", ...foot.map(row)));
  return scrolling(name, table);
}

function tableHead(columns) {
  return h("thead", h("tr", ...columns.map((text) => h("th", { scope: "col" }, text))));
}

function fact(label, value, remark) {
  if (value === null || value === undefined || value === "") return null;
  return h("div", h("dt", label), h("dd", value, remark ? h("div.small.soft", remark) : null));
}

function pairs(entries) {
  const text = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));
  const known = entries.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return h("dl.pairs", ...known.flatMap(([name, value]) => [h("dt", name), h("dd.mono", text(value))]));
}

function showFooter() {
  byId("footer").append(
    `Written by R2Gen on ${moment(data.written)}. ` +
      `This file is self-contained and loads nothing from the network.${data.patient === false ? "" : " It contains patient text."}`,
  );
}

// ------------------------------------------------------------------------------------------------------------ controls
// A select element with a label; `options` are [value, text].
function picker(label, options, chosen, change) {
  const choices = options.map(([value, text]) => h("option", { value, selected: value === chosen }, text));
  return h("label.pair", label, h("select", { onchange: (event) => change(event.target.value) }, ...choices));
}

function switchBox(label, checked, change) {
  const box = h("input", { type: "checkbox", checked, onchange: (event) => change(event.target.checked) });
  return h("label.switch", box, label);
}

function button(text, onclick) {
  return h("button", { type: "button", onclick }, text);
}

function searchField(placeholder, label, change) {
  const oninput = (event) => change(event.target.value.trim().toLowerCase());
  return h("input", { type: "search", placeholder, "aria-label": label, oninput });
}

function commandLine(command) {
  return h("div.command", h("code", { tabindex: "0" }, command), copyButton(command));
}

function copyButton(text) {
  const copy = button("Copy", async () => {
    let done = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      done = copyBySelection(text);
    }
    copy.textContent = done ? "Copied" : "Not copied";
    setTimeout(() => (copy.textContent = "Copy"), 1600);
  });
  copy.setAttribute("aria-label", "Copy the command");
  return copy;
}

function copyBySelection(text) {
  const area = h("textarea.unseen", { readonly: true });
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

// ------------------------------------------------------------------------------------------------------------- drawing
const look = { smooth: true, log: false, printing: false };
const drawings = [];

// Draw when the element's width changes, and before and after printing (look.printing).
function onWidth(element, draw) {
  let width = -1;
  drawings.push(draw);
  new ResizeObserver(() => {
    if (element.clientWidth === width) return;
    width = element.clientWidth;
    requestAnimationFrame(draw);
  }).observe(element);
}

function drawFor(printing) {
  look.printing = printing;
  drawings.forEach((draw) => draw());
}

addEventListener("beforeprint", () => drawFor(true));
addEventListener("afterprint", () => drawFor(false));
