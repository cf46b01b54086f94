"use strict";
// The pair's maps: their values, their colors, and the cross that shows one pixel in all of them.
const pair = (() => {
  const data = page.read("pair");
  const [height, width] = data.size;
  const maps = new Map();
  for (const panel of data.panels) {
    if (panel.values) maps.set(panel.id, page.decode(panel.values).at);
  }
  for (const panel of data.panels) {
    if (!panel.of) continue;
    const [one, other] = panel.of.map((id) => maps.get(id));
    const difference = (i) => one(i) - other(i);
    maps.set(panel.id, panel.absolute ? (i) => Math.abs(difference(i)) : difference);
  }
  const panels = new Map(data.panels.map((panel) => [panel.id, panel]));

  const tables = {};
  for (const [name, text] of Object.entries(data.colors)) {
    tables[name] = Uint8Array.from({ length: 768 }, (_, i) => parseInt(text.slice(2 * i, 2 * i + 2), 16));
  }

  // Index into a table of 256 colors of a value; -1 of one that is not known.
  function place(value, low, high) {
    if (Number.isNaN(value)) return -1;
    return Math.round(255 * Math.min(Math.max((value - low) / (high - low), 0), 1));
  }

  function paint(canvas, id) {
    const { low, high, colors } = panels.get(id);
    const [at, table] = [maps.get(id), tables[colors]];
    const image = new ImageData(width, height);
    for (let i = 0; i < width * height; i++) {
      const index = place(at(i), low, high);
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = index < 0 ? data.unknown : table[3 * index + c];
      image.data[4 * i + 3] = 255;
    }
    page.pen(canvas).putImageData(image, 0, 0);
  }

  for (const canvas of document.querySelectorAll("canvas[data-map]")) paint(canvas, canvas.dataset.map);
  for (const ramp of document.querySelectorAll("canvas.ramp")) {
    const [image, table] = [new ImageData(256, 1), tables[ramp.dataset.colors]];
    for (let i = 0; i < 256; i++) {
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = table[3 * i + c];
      image.data[4 * i + 3] = 255;
    }
    page.pen(ramp).putImageData(image, 0, 0);
  }

  // The true glass, outlined in black and white, to be seen on any color.
  const glass = data.glass && page.decode(data.glass).at;
  const button = document.getElementById("toggle-glass");
  function outline() {
    const image = new ImageData(width, height);
    const thick = Math.max(1, Math.round(width / 320));
    const is = (x, y) => x >= 0 && y >= 0 && x < width && y < height && glass(y * width + x) > 0.5;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const own = is(x, y);
        const edge = is(x + thick, y) !== own || is(x - thick, y) !== own || is(x, y + thick) !== own || is(x, y - thick) !== own;
        if (edge) image.data.set(own ? [255, 255, 255, 255] : [0, 0, 0, 255], 4 * (y * width + x));
      }
    }
    return image;
  }
  let drawn = null;
  const outlines = [...document.querySelectorAll("canvas.outline")];
  function toggleGlass() {
    if (!glass) return;
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", on);
    drawn = drawn || outline();
    for (const canvas of outlines) {
      page.pen(canvas).putImageData(drawn, 0, 0);
      canvas.hidden = !on;
    }
  }
  if (button) {
    button.hidden = !glass;
    button.addEventListener("click", toggleGlass);
  }

  // The cross. In the right view it is where the disparity says that the pixel is.
  let held = false;
  let here = null;
  const frames = [...document.querySelectorAll(".panel .frame")];
  const right = document.querySelector("#panel-right .frame");
  const disparity = maps.get("with") || maps.get("without");
  const outputs = [...document.querySelectorAll("output[data-of]")];
  function point(x, y) {
    here = x === null ? null : [Math.min(Math.max(x, 0), width - 1), Math.min(Math.max(y, 0), height - 1)];
    for (const frame of frames) {
      const cross = frame.querySelector(".cross");
      cross.hidden = !here;
      if (!here) continue;
      const shift = frame === right ? disparity(here[1] * width + here[0]) / data.step : 0;
      cross.style.left = `${(100 * (here[0] - shift + 0.5)) / width}%`;
      cross.style.top = `${(100 * (here[1] + 0.5)) / height}%`;
    }
    for (const output of outputs) {
      const panel = panels.get(output.dataset.of);
      const value = here ? maps.get(panel.id)(here[1] * width + here[0]) : NaN;
      output.textContent = !here ? "" : Number.isNaN(value) ? "not known" : `${value.toFixed(panel.digits)} ${panel.unit}`;
    }
  }
  // Column and row of the pixel under a pointer.
  function under(frame, event) {
    const box = frame.getBoundingClientRect();
    const share = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    return [Math.floor(share[0] * width), Math.floor(share[1] * height)]
      .map((place, i) => Math.min(Math.max(place, 0), [width, height][i] - 1));
  }
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  for (const frame of frames.filter((each) => each !== right)) {
    frame.addEventListener("pointermove", (event) => { if (!held) point(...under(frame, event)); });
    frame.addEventListener("pointerleave", () => { if (!held) point(null); });
    frame.addEventListener("click", (event) => {
      held = !held || event.pointerType === "touch";
      point(...under(frame, event));
    });
    frame.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        held = false;
        point(null);
      } else if (steps[event.key]) {
        const by = event.shiftKey ? 10 : 1;
        const from = here || [Math.floor(width / 2), Math.floor(height / 2)];
        held = true;
        point(from[0] + by * steps[event.key][0], from[1] + by * steps[event.key][1]);
        event.preventDefault();
      }
    });
  }

  page.onKey((key) => {
    if (key === "g") toggleGlass();
    else return false;
    return true;
  });
  return { data, width, height, maps, panels, tables, place, paint, under, steps, glass };
})();
