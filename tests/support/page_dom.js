// Runs the script of a page without a browser, uses each of its controls once, and prints the text that it shows.
// node page_dom.js PAGE.html
"use strict";
const { readFileSync } = require("node:fs");
const vm = require("node:vm");

const page = readFileSync(process.argv[2], "utf-8");
const between = (start, end) => page.slice(page.lastIndexOf(start) + start.length, page.lastIndexOf(end));
const content = between('id="data">', "</script>\n<script>");
const script = between("<script>", "</script>");

class Element {
  constructor(tag) {
    Object.assign(this, { tag, children: [], attributes: {}, listeners: {}, style: {}, clientWidth: 800, value: "" });
    this.namespaceURI = "svg";
    this.classList = { add() {} };
  }
  setAttribute(name, value) {
    this.attributes[name] = value;
    if (name === "value") this.value = value;
  }
  hasAttribute(name) {
    return name in this.attributes;
  }
  addEventListener(name, listener) {
    this.listeners[name] = listener;
  }
  append(...children) {
    this.children.push(...children);
  }
  replaceChildren(...children) {
    this.children = children;
  }
  querySelector(selector) {
    const matches = ({ tag, attributes }) => `.${attributes.class}` === selector || tag === selector;
    return this.all().find(matches);
  }
  all() {
    return [this, ...this.children.filter((child) => child instanceof Element).flatMap((child) => child.all())];
  }
  get childElementCount() {
    return this.children.length;
  }
  get firstChild() {
    return this.children[0];
  }
  get textContent() {
    return this.children.map((child) => (child instanceof Element ? child.textContent : child)).join(" ");
  }
  set textContent(text) {
    this.children = [text];
  }
  getBoundingClientRect() {
    return { left: 0, top: 0, width: 800, height: 200 };
  }
  get isConnected() {
    return true;
  }
  getAttribute(name) {
    return this.attributes[name];
  }
  click() {
    this.listeners.click?.({ target: this });
  }
  scrollIntoView() {}
  focus() {}
  select() {}
  remove() {}
  close() {}
  showModal() {}
}

const elements = Object.fromEntries(
  ["data", "seed", "masthead", "footer", "viewer", "main"].map((id) => [id, new Element(id)]),
);
elements.data.textContent = content;
const shown = () => ["masthead", "main", "footer"].flatMap((id) => elements[id].all());
const windowListeners = {};
vm.runInNewContext(script, {
  document: {
    getElementById: (id) => elements[id],
    querySelector: (selector) => elements[selector],
    querySelectorAll: () => [],
    createElement: (tag) => new Element(tag),
    createElementNS: (_, tag) => new Element(tag),
    body: new Element("body"),
    execCommand: () => true,
  },
  ResizeObserver: class {
    constructor(callback) {
      this.observe = callback;
    }
  },
  requestAnimationFrame: (callback) => callback(),
  addEventListener: (name, listener) => (windowListeners[name] = listener),
  navigator: { clipboard: { writeText: async () => {} } },
  setTimeout: () => {},
  Blob: class {},
  URL: { createObjectURL: () => "blob:1", revokeObjectURL() {} },
});

const EVENTS = ["click", "input", "change", "pointermove", "pointerenter", "pointerleave"];
const KEYS = ["ArrowLeft", "End", "Escape"];
for (const element of shown()) {
  const event = { target: { value: element.children[0]?.value ?? "", checked: true }, clientX: 400, clientY: 100 };
  for (const name of EVENTS) element.listeners[name]?.(event);
  for (const key of KEYS) element.listeners.keydown?.({ key, preventDefault() {} });
}
windowListeners.beforeprint();
windowListeners.afterprint();
console.log(["masthead", "main", "footer"].map((id) => elements[id].textContent).join("\n"));
