"use strict";
// The points of the disparity, drawn on a plain canvas: every browser has one, and sixty thousand points are few.
(() => {
  const stage = document.getElementById("stage");
  const { width, height, data } = pair;
  const camera = data.cloud;
  const [down, right] = camera.every;
  const [wide, high] = [stage.width, stage.height];
  const pen = page.pen(stage);
  const image = new ImageData(wide, high);
  const pixels = new Uint32Array(image.data.buffer);
  const depths = new Float32Array(wide * high);
  const text = document.getElementById("stage-text");
  const names = { with: "With polarization", without: "Without", truth: "Truth" };
  const clouds = {};
  let source = Object.keys(camera.keep)[0];
  let coloring = "image";
  let view = null;
  let leftColors = null;
  let due = false;

  // x, y, z of the kept pixels in the camera's axes (x right, y down, z forward), their places, and their sizes.
  function pointsOf(name) {
    if (clouds[name]) return clouds[name];
    const keep = page.decode(camera.keep[name]);
    const [rows, columns] = keep.shape;
    const disparity = pair.maps.get(name);
    const found = { xyz: [], places: [], sizes: [] };
    for (let i = 0; i < rows * columns; i++) {
      const [row, column] = [Math.floor(i / columns) * down, (i % columns) * right];
      const place = row * width + column;
      const shifted = disparity(place) + camera.shift;
      if (!(keep.at(i) > 0.5) || !(shifted > 0)) continue;
      const z = (camera.fx * camera.baseline) / shifted;
      found.xyz.push(((column * data.step - camera.cx) / camera.fx) * z, ((row * data.step - camera.cy) / camera.fy) * z, z);
      found.places.push(place);
      found.sizes.push((z * data.step * Math.max(down, right)) / camera.fx);
    }
    found.xyz = Float32Array.from(found.xyz);
    found.depths = found.xyz.filter((_, i) => i % 3 === 2).sort();
    clouds[name] = found;
    return found;
  }

  // Depth that a share of the points stays below.
  function depthAt(share, name = source) {
    const { depths: sorted } = pointsOf(name);
    return sorted.length ? sorted[Math.min(Math.floor(share * sorted.length), sorted.length - 1)] : 1;
  }

  // The first view is the camera's own, from a little aside; the same for all points, so that they can be compared.
  function reset() {
    const z = depthAt(0.3, "truth" in camera.keep ? "truth" : Object.keys(camera.keep)[0]);
    const focal = (wide * camera.fx) / (width * data.step);
    view = { yaw: 0.15, pitch: 0.08, target: [0, 0, z], distance: z * 1.1, focal: Math.min(focal, (high * camera.fy) / (height * data.step)) };
  }

  const packColor = (r, g, b) => (255 << 24) | (b << 16) | (g << 8) | r;
  function colorer() {
    if (coloring === "image") {
      if (!leftColors) {
        const canvas = new OffscreenCanvas(width, height);
        const other = page.pen(canvas);
        other.drawImage(document.querySelector("#panel-left img"), 0, 0, width, height);
        leftColors = new Uint32Array(other.getImageData(0, 0, width, height).data.buffer);
      }
      return (place) => leftColors[place];
    }
    const { low, high: top, colors } = pair.panels.get(coloring);
    const [at, table] = [pair.maps.get(coloring), pair.tables[colors]];
    return (place) => {
      const index = pair.place(at(place), low, top);
      if (index < 0) return packColor(data.unknown, data.unknown, data.unknown);
      return packColor(table[3 * index], table[3 * index + 1], table[3 * index + 2]);
    };
  }

  function draw() {
    due = false;
    const { xyz, places, sizes } = pointsOf(source);
    const color = colorer();
    const [r, g, b] = getComputedStyle(stage).backgroundColor.match(/[\d.]+/g).map(Number);
    pixels.fill(packColor(r, g, b));
    depths.fill(Infinity);
    const [sinYaw, cosYaw, sinPitch, cosPitch] = [Math.sin(view.yaw), Math.cos(view.yaw), Math.sin(view.pitch), Math.cos(view.pitch)];
    const near = view.distance * 0.02;
    let drawn = 0;
    for (let i = 0; i < places.length; i++) {
      const [x, y, z] = [xyz[3 * i] - view.target[0], xyz[3 * i + 1] - view.target[1], xyz[3 * i + 2] - view.target[2]];
      const turned = -sinYaw * x + cosYaw * z;
      const depth = sinPitch * y + cosPitch * turned + view.distance;
      if (depth < near) continue;
      const scale = view.focal / depth;
      const column = wide / 2 + scale * (cosYaw * x + sinYaw * z);
      const row = high / 2 + scale * (cosPitch * y - sinPitch * turned);
      const half = Math.min(0.65 * scale * sizes[i] + 0.35, 6);
      const [x0, x1] = [Math.max(Math.round(column - half), 0), Math.min(Math.round(column + half), wide)];
      const [y0, y1] = [Math.max(Math.round(row - half), 0), Math.min(Math.round(row + half), high)];
      if (x0 >= x1 || y0 >= y1) continue;
      const value = color(places[i]);
      drawn++;
      for (let v = y0; v < y1; v++) {
        for (let u = x0; u < x1; u++) {
          if (depth < depths[v * wide + u]) {
            depths[v * wide + u] = depth;
            pixels[v * wide + u] = value;
          }
        }
      }
    }
    pen.putImageData(image, 0, 0);
    const range = [0.05, 0.95].map((share) => depthAt(share).toFixed(2));
    const unit = camera.metric ? " m" : "";
    text.textContent = `${places.length.toLocaleString("en")} points; depth ${range[0]} to ${range[1]}${unit}` + (camera.metric ? "" : ", arbitrary scale");
    Object.assign(stage.dataset, { points: places.length, drawn });
  }
  function redraw() {
    if (!due) requestAnimationFrame(draw);
    due = true;
  }

  function turn(dx, dy) {
    view.yaw -= dx;
    view.pitch = Math.min(Math.max(view.pitch + dy, -1.5), 1.5);
    redraw();
  }
  function pan(dx, dy) {
    const by = view.distance / view.focal;
    view.target[0] -= dx * by * Math.cos(view.yaw);
    view.target[2] -= dx * by * Math.sin(view.yaw);
    view.target[1] -= dy * by;
    redraw();
  }
  function zoom(factor) {
    view.distance *= factor;
    redraw();
  }

  stage.addEventListener("pointerdown", (event) => {
    stage.setPointerCapture(event.pointerId);
    stage.focus({ preventScroll: true });
  });
  stage.addEventListener("pointermove", (event) => {
    if (!stage.hasPointerCapture(event.pointerId)) return;
    if (event.shiftKey || event.buttons === 2) pan(event.movementX, event.movementY);
    else turn(event.movementX * 0.006, event.movementY * 0.006);
  });
  stage.addEventListener("contextmenu", (event) => event.preventDefault());
  stage.addEventListener("wheel", (event) => {
    if (document.activeElement !== stage) return;
    event.preventDefault();
    zoom(Math.exp(event.deltaY * 0.001));
  }, { passive: false });
  stage.addEventListener("keydown", (event) => {
    const step = pair.steps[event.key];
    if (step && event.shiftKey) pan(24 * step[0], 24 * step[1]);
    else if (step) turn(0.08 * step[0], 0.08 * step[1]);
    else if (event.key === "+" || event.key === "=") zoom(0.9);
    else if (event.key === "-") zoom(1 / 0.9);
    else if (event.key === "0") { reset(); redraw(); }
    else return;
    event.preventDefault();
  });

  function choices(id, entries, current, choose) {
    const group = document.getElementById(id);
    for (const [value, label] of entries) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = label;
      button.dataset.value = value;
      button.setAttribute("aria-pressed", value === current);
      button.addEventListener("click", () => {
        for (const other of group.children) other.setAttribute("aria-pressed", other === button);
        choose(value);
        redraw();
      });
      group.append(button);
    }
  }
  choices("cloud-source", Object.keys(camera.keep).map((name) => [name, names[name]]), source, (name) => { source = name; });
  const maps = ["with", "without", "use", "glass", "confidence", "error-with", "dolp"].filter((id) => pair.maps.has(id));
  const colorings = [["image", "Left view"], ...maps.filter((id) => id !== "without" || !pair.maps.has("with")).map((id) => [id, id.startsWith("with") ? "Disparity" : pair.panels.get(id).title])];
  choices("cloud-colors", colorings, coloring, (name) => { coloring = name; });
  page.onKey((key) => {
    if (key !== "v") return false;
    stage.focus({ preventScroll: true });
    document.getElementById("cloud").scrollIntoView();
    return true;
  });
  document.addEventListener("themechange", redraw);
  reset();
  document.querySelector("#panel-left img").decode().then(redraw);
})();
