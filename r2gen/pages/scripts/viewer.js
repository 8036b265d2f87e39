// A study's images in a dialog: zoom, pan, and a window of gray values.
const MOST_ZOOM = 12;
const WHOLE = { zoom: 1, x: 0, y: 0, level: 0.5, width: 1, inverted: false };

class Viewer {
  constructor(row, start) {
    Object.assign(this, { row, at: start, look: { ...WHOLE }, pointers: new Map() });
    this.dialog = byId("viewer");
    this.image = h("img", { draggable: "false" });
    this.label = h("span.where");
    this.stage = h("div.stage", {
      onwheel: (event) => this.wheel(event),
      onpointerdown: (event) => this.press(event),
      onpointermove: (event) => this.drag(event),
      onpointerup: (event) => this.pointers.delete(event.pointerId),
      onpointercancel: (event) => this.pointers.delete(event.pointerId),
      ondblclick: () => this.change(this.look.zoom > 1 ? { zoom: 1, x: 0, y: 0 } : { zoom: 3 }),
    });
    this.stage.append(this.image);
    this.image.addEventListener("load", () => this.draw());
  }

  open() {
    this.dialog.replaceChildren(this.stage, this.strip());
    this.dialog.onclick = (event) => event.target === this.dialog && this.dialog.close();
    this.dialog.onkeydown = (event) => this.key(event);
    this.show(this.at);
    this.dialog.showModal();
    this.draw();
  }

  strip() {
    const count = this.row.images.length;
    const slider = (name, key, least, most) => {
      const oninput = (event) => this.change({ [key]: Number(event.target.value) });
      const bar = h("input", { type: "range", min: least, max: most, step: 0.01, value: WHOLE[key], oninput });
      this[`${key}Bar`] = bar;
      return h("label", name, bar);
    };
    const steps = [button("Previous", () => this.show(this.at - 1)), button("Next", () => this.show(this.at + 1))];
    return h(
      "div.strip",
      this.label,
      button("−", () => this.zoomBy(1 / 1.5)),
      button("+", () => this.zoomBy(1.5)),
      slider("Brightness", "level", 0.02, 0.98),
      slider("Contrast", "width", 0.4, 1.95),
      button("Invert", () => this.change({ inverted: !this.look.inverted })),
      button("Reset", () => this.change({ ...WHOLE })),
      ...(count > 1 ? steps : []),
      button("Close", () => this.dialog.close()),
    );
  }

  show(index) {
    const count = this.row.images.length;
    this.at = (index + count) % count;
    this.image.src = this.row.images[this.at];
    this.image.alt = `Image ${this.at + 1} of ${count}, study ${this.row.id}`;
    this.change({ zoom: 1, x: 0, y: 0 });
  }

  change(look) {
    Object.assign(this.look, look);
    this.draw();
  }

  // `level` and `width` are sliders from 0 to 1: brighter, and more contrast, to the right.
  draw() {
    const { zoom, x, y, level, width, inverted } = this.look;
    const [middle, span] = [1 - level, 2 - width];
    // Brightness maps the middle gray to .5, and contrast stretches around it.
    const window = `brightness(${0.5 / middle}) contrast(${(2 * middle) / span})`;
    const isPlain = level === WHOLE.level && width === WHOLE.width;
    this.image.style.transform = `translate(${x}px, ${y}px) scale(${zoom})`;
    this.image.style.filter = `${isPlain ? "" : window}${inverted ? " invert(1)" : ""}` || "none";
    for (const key of ["level", "width"]) this[`${key}Bar`].value = this.look[key];
    const size = this.image.naturalWidth ? `${this.image.naturalWidth} × ${this.image.naturalHeight} pixels, ` : "";
    const position = `${this.row.id} · image ${this.at + 1} of ${this.row.images.length}`;
    this.label.textContent = `${position} · ${size}zoom ${zoom.toFixed(1)} · not for diagnosis`;
  }

  // ----------------------------------------------------------------------------------------------------- zoom and pan
  // Zoom by a factor around a point, given from the middle of the stage.
  zoomBy(factor, px = 0, py = 0) {
    const zoom = Math.min(MOST_ZOOM, Math.max(1, this.look.zoom * factor));
    const ratio = zoom / this.look.zoom;
    const place = zoom === 1 ? { x: 0, y: 0 } : { x: px + (this.look.x - px) * ratio, y: py + (this.look.y - py) * ratio };
    this.change({ zoom, ...place });
  }

  wheel(event) {
    event.preventDefault();
    const box = this.stage.getBoundingClientRect();
    const from = [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2];
    this.zoomBy(event.deltaY < 0 ? 1.2 : 1 / 1.2, ...from);
  }

  press(event) {
    this.stage.setPointerCapture?.(event.pointerId);
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
  }

  // One pointer moves the image, two zoom.
  drag(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    const now = [event.clientX, event.clientY];
    const apart = (one) => Math.hypot(one[0] - other[0], one[1] - other[1]) || 1;
    if (other) this.zoomBy(apart(now) / apart(before));
    else this.change({ x: this.look.x + now[0] - before[0], y: this.look.y + now[1] - before[1] });
    this.pointers.set(event.pointerId, now);
  }

  key(event) {
    if (event.target.type === "range") return;
    const action = {
      ArrowLeft: () => this.show(this.at - 1),
      ArrowRight: () => this.show(this.at + 1),
      "+": () => this.zoomBy(1.5),
      "-": () => this.zoomBy(1 / 1.5),
      0: () => this.change({ ...WHOLE }),
    }[event.key];
    action?.();
  }
}

function showImage(row, start) {
  new Viewer(row, start).open();
}
