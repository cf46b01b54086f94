"use strict";
// Point at a pixel of the left view: which cells of the polarization it attends to, head by head.
(() => {
  const asked = document.getElementById("asked");
  if (!asked) return;
  const { width, height, data } = pair;
  const table = pair.tables.magma || Object.values(pair.tables)[0];
  const sites = data.attention.map((site) => ({
    ...site,
    shares: page.decode(site.shares),
    peak: page.decode(site.peak),
    null: site.null && page.decode(site.null),
  }));
  const heads = document.getElementById("heads");
  const [hold, under] = ["hold", "under"].map((id) => document.getElementById(id));
  const text = document.getElementById("asked-text");
  const [base, heat, marks] = ["base", "heat", "marks"].map((name) => asked.querySelector(`.${name}`));
  let site = sites[0];
  let query = null; // row and column in the grid
  let held = false;
  let overView = false;
  let views = [];

  // Pixels of the page are every `step`-th pixel of the image.
  const shown = (place) => (place + 0.5) / data.step - 0.5;
  const nearest = (places, place) => {
    let best = 0;
    places.forEach((each, i) => { if (Math.abs(each - place) < Math.abs(places[best] - place)) best = i; });
    return best;
  };

  // The cells that a pixel of the grid may attend to: their row, column and place in its weights.
  function cellsOf([row, column]) {
    const [rows, columns] = site.cells;
    const found = [];
    if (site.window === null) {
      for (let i = 0; i < rows * columns; i++) found.push([Math.floor(i / columns), i % columns, i]);
      return found;
    }
    const side = 2 * site.window + 1;
    for (let i = 0; i < side * side; i++) {
      const cell = [site.own_y[row] + Math.floor(i / side) - site.window, site.own_x[column] + (i % side) - site.window];
      if (cell[0] >= 0 && cell[1] >= 0 && cell[0] < rows && cell[1] < columns) found.push([...cell, i]);
    }
    return found;
  }
  // Left, top, right and bottom of a cell, in pixels of the page; origins are corners, half a pixel before centers.
  function box(row, column) {
    const at = (origin, index) => Math.round((origin + 0.5 + index * site.cell_px) / data.step);
    return [at(site.origin[1], column), at(site.origin[0], row), at(site.origin[1], column + 1), at(site.origin[0], row + 1)];
  }
  // Weight of a head on the i-th of a pixel's cells.
  function weight([row, column], head, i) {
    const place = (row * site.x.length + column) * site.heads + head;
    return site.shares.at(place * site.shares.shape[3] + i) * site.peak.at(place);
  }

  function drawHeat(canvas, cells, weightOf, most) {
    const pen = page.pen(canvas);
    pen.clearRect(0, 0, width, height);
    for (const [row, column, i] of cells) {
      const share = most > 0 ? weightOf(i) / most : 0;
      const index = Math.min(Math.round(255 * share), 255);
      // Colors from the middle up: what is hardly attended to is transparent, not black.
      const color = 96 + Math.round((159 * index) / 255);
      const [left, top, right, bottom] = box(row, column);
      pen.fillStyle = `rgb(${table[3 * color]} ${table[3 * color + 1]} ${table[3 * color + 2]} / ${index / 255})`;
      pen.fillRect(left, top, right - left, bottom - top);
    }
  }

  function drawMarks(canvas, cells) {
    const pen = page.pen(canvas);
    pen.clearRect(0, 0, width, height);
    const corners = cells.map(([row, column]) => box(row, column));
    const frame = [0, 1].map((i) => Math.min(...corners.map((each) => each[i])));
    frame.push(...[2, 3].map((i) => Math.max(...corners.map((each) => each[i]))));
    const thick = Math.max(1, width / 400);
    const place = [shown(site.x[query[1]]) + 0.5, shown(site.y[query[0]]) + 0.5];
    const half = Math.max(2, width / 100);
    for (const [color, line] of [["#000", 3 * thick], ["#fff", thick]]) {
      pen.strokeStyle = color;
      pen.lineWidth = line;
      if (site.window !== null) pen.strokeRect(frame[0], frame[1], frame[2] - frame[0], frame[3] - frame[1]);
      pen.strokeRect(place[0] - half, place[1] - half, 2 * half, 2 * half);
    }
  }

  const percent = (value) => `${(100 * value).toFixed(value < 0.0995 ? 1 : 0)} %`;

  function draw() {
    const cells = cellsOf(query);
    const nulls = [];
    let total = 0;
    views.forEach((view, head) => {
      const weights = new Map(cells.map((cell) => [cell[2], weight(query, head, cell[2])]));
      let top = cells[0];
      for (const cell of cells) {
        total += weights.get(cell[2]);
        if (weights.get(cell[2]) > weights.get(top[2])) top = cell;
      }
      const most = weights.get(top[2]);
      drawHeat(view.heat, cells, (i) => weights.get(i), most);
      drawMarks(view.marks, cells);
      const nothing = site.null ? site.null.at((query[0] * site.x.length + query[1]) * site.heads + head) : null;
      if (nothing !== null) nulls.push(nothing);
      view.bar.hidden = nothing === null;
      view.fill.style.width = `${100 * (nothing || 0)}%`;
      view.text.textContent = `largest weight ${percent(most)}` + (nothing === null ? "" : `, on nothing ${percent(nothing)}`);
      Object.assign(view.figure.dataset, { strongest: `${top[0]} ${top[1]}`, peak: most, null: nothing });
    });
    const mean = new Map(cells.map((cell) => [cell[2], 0]));
    for (const [i] of mean) {
      for (let head = 0; head < site.heads; head++) mean.set(i, mean.get(i) + weight(query, head, i) / site.heads);
    }
    drawHeat(heat, cells, (i) => mean.get(i), Math.max(...mean.values()));
    drawMarks(marks, cells);
    const [x, y] = [site.x[query[1]], site.y[query[0]]];
    const place = Math.min(Math.max(Math.round(shown(y)), 0), height - 1) * width + Math.min(Math.max(Math.round(shown(x)), 0), width - 1);
    const use = pair.maps.get("use");
    const words = [`Pixel (${Math.round(x)}, ${Math.round(y)})`];
    if (use) words.push(`${use(place).toFixed(2)} % injected`);
    if (nulls.length) words.push(`${percent(nulls.reduce((a, b) => a + b) / nulls.length)} on nothing`);
    if (total === 0 && !nulls.some((each) => each > 0)) words.push("no valid cell to attend to");
    text.textContent = words.join(", ");
    asked.dataset.query = `${query[0]} ${query[1]}`;
  }

  // What lies under the weights: the polarization, or the left view.
  function drawBase(canvas, overLeft) {
    const pen = page.pen(canvas);
    const source = document.querySelector(overLeft ? "#panel-left img" : "#panel-dolp canvas.map") || document.querySelector("#panel-left img");
    pen.globalAlpha = 1;
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, width, height);
    pen.globalAlpha = 0.55;
    pen.drawImage(source, 0, 0, width, height);
  }

  function build() {
    heads.replaceChildren();
    views = [];
    for (let head = 0; head < site.heads; head++) {
      const figure = document.createElement("figure");
      figure.className = "head";
      const frame = document.createElement("div");
      frame.className = "frame";
      const layers = ["base", "heat", "marks"].map((name) => {
        const canvas = document.createElement("canvas");
        [canvas.width, canvas.height, canvas.className] = [width, height, name];
        return canvas;
      });
      frame.append(...layers);
      const bar = document.createElement("div");
      bar.className = "null";
      bar.title = "weight on nothing";
      const fill = document.createElement("span");
      bar.append(fill);
      const caption = document.createElement("figcaption");
      const title = document.createElement("b");
      title.textContent = `Head ${head + 1}`;
      const words = document.createElement("span");
      caption.append(title, " ", words);
      figure.append(frame, bar, caption);
      heads.append(figure);
      frame.addEventListener("pointermove", (event) => { if (!held) ask(frame, event); });
      frame.addEventListener("click", (event) => { setHeld(!held); ask(frame, event); });
      views.push({ figure, heat: layers[1], marks: layers[2], base: layers[0], bar, fill, text: words });
    }
    for (const view of views) drawBase(view.base, overView);
  }

  function setHeld(on) {
    held = on;
    hold.setAttribute("aria-pressed", on);
  }
  function toggleUnder() {
    overView = !overView;
    under.setAttribute("aria-pressed", overView);
    for (const view of views) drawBase(view.base, overView);
  }
  function goTo(row, column) {
    query = [Math.min(Math.max(row, 0), site.y.length - 1), Math.min(Math.max(column, 0), site.x.length - 1)];
    draw();
  }
  function ask(frame, event) {
    const [x, y] = pair.under(frame, event);
    const next = [nearest(site.y, y * data.step), nearest(site.x, x * data.step)];
    if (!query || next[0] !== query[0] || next[1] !== query[1]) goTo(...next);
  }

  asked.addEventListener("pointermove", (event) => { if (!held) ask(asked, event); });
  asked.addEventListener("click", (event) => {
    setHeld(!held);
    ask(asked, event);
  });
  asked.addEventListener("keydown", (event) => {
    if (event.key === "Enter") setHeld(!held);
    else if (event.key === "Escape") setHeld(false);
    else if (pair.steps[event.key]) {
      const [dx, dy] = pair.steps[event.key];
      const by = event.shiftKey ? 5 : 1;
      setHeld(true);
      goTo(query[0] + by * dy, query[1] + by * dx);
    } else return;
    event.preventDefault();
  });
  hold.addEventListener("click", () => setHeld(!held));
  under.addEventListener("click", toggleUnder);
  for (const button of document.querySelectorAll("#sites button")) {
    button.addEventListener("click", () => {
      for (const other of document.querySelectorAll("#sites button")) other.setAttribute("aria-pressed", other === button);
      for (const line of document.querySelectorAll(".site-title")) line.hidden = line.dataset.site !== button.dataset.site;
      const [x, y] = [site.x[query[1]], site.y[query[0]]];
      site = sites[Number(button.dataset.site)];
      build();
      goTo(nearest(site.y, y), nearest(site.x, x));
    });
  }
  page.onKey((key) => {
    if (key === "b") toggleUnder();
    else if (key === "a") {
      asked.focus({ preventScroll: true });
      document.getElementById("attention").scrollIntoView();
    } else return false;
    return true;
  });

  // Pictures of data: addresses are decoded a moment after the page.
  const start = () => {
    drawBase(base, true);
    build();
    goTo(nearest(site.y, data.start[0] * data.step), nearest(site.x, data.start[1] * data.step));
  };
  document.querySelector("#panel-left img").decode().then(start);
})();
