"use strict";
// The page of an evaluation: tables that sort, the measure of the rows, the row and measure of the table of scenes.
(() => {
  // Sorting: numbers from the largest to the smallest first, words from a to z; what has no number is always last.
  const valueOf = (line, column) => line.cells[column].dataset.value;
  const toNumber = (text) => (text === "inf" ? Infinity : text === "-inf" ? -Infinity : text === "" ? NaN : Number(text));
  const sort = (table, column, ascending) => {
    const words = "words" in table.tHead.rows[0].cells[column].dataset;
    const keyed = [...table.tBodies[0].rows].map((line, place) => {
      const text = valueOf(line, column);
      return { line, place, text, value: toNumber(text) };
    });
    const sign = ascending ? 1 : -1;
    keyed.sort((a, b) => {
      if (words) return sign * a.text.localeCompare(b.text, "en", { numeric: true }) || a.place - b.place;
      const [none, other] = [Number.isNaN(a.value), Number.isNaN(b.value)];
      if (none || other) return none - other || a.place - b.place;
      return a.value === b.value ? a.place - b.place : sign * (a.value < b.value ? -1 : 1);
    });
    table.tBodies[0].append(...keyed.map((entry) => entry.line));
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => {
        const before = head.getAttribute("aria-sort");
        const ascending = before ? before === "descending" : "words" in head.dataset;
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
        sort(table, column, ascending);
      });
    });
  }

  // The measure of the table of rows.
  const measures = [...document.querySelectorAll("[data-measure]")];
  const showMeasure = (name) => {
    for (const button of measures) button.setAttribute("aria-pressed", String(button.dataset.measure === name));
    for (const part of document.querySelectorAll("[data-of]")) part.hidden = part.dataset.of !== name;
  };
  for (const button of measures) button.addEventListener("click", () => showMeasure(button.dataset.measure));

  const table = document.getElementById("scene-table");
  const row = document.getElementById("row");
  const measure = document.getElementById("measure");
  if (table) {
    const values = page.read("values");
    const lines = [...table.tBodies[0].rows].sort((a, b) => a.dataset.place - b.dataset.place);
    const heads = [...table.tHead.rows[0].cells];
    const first = 2;
    const last = first + values.regions.length;
    const put = (cell, value, word, digits, sign = "") => {
      const none = value === null || Number.isNaN(value);
      const number = value === "infinite" ? Infinity : value;
      cell.dataset.value = none ? "nan" : number === Infinity ? "inf" : number === -Infinity ? "-inf" : String(number);
      cell.textContent = none ? word : !Number.isFinite(number) ? "infinite" :
        (sign && number >= 0 ? sign : "") + number.toFixed(digits);
      cell.classList.toggle("word", none);
    };
    const show = () => {
      const chosen = values.rows[Number(row.value)];
      const kind = values.measures.find((one) => one.name === measure.value);
      const digits = kind.unit === "px" ? 2 : 1;
      const of = (one, region, place) => {
        const column = one.values[`${kind.name}.${region}`];
        return column ? column[place] : null;
      };
      const other = chosen.other === null ? null : values.rows[chosen.other];
      const button = document.getElementById("other");
      const named = heads.findIndex((head) => head.contains(button));
      if (button) button.textContent = other ? `${button.dataset.region}, ${other.name}` : "nothing to compare with";
      lines.forEach((line, place) => {
        values.regions.forEach((region, column) => {
          put(line.cells[first + column], of(chosen, region, place), values.missing[region][place], digits);
        });
        if (!button) return;
        const word = other ? values.missing[values.region][place] : "";
        const [here, there] = [of(chosen, values.region, place), other ? of(other, values.region, place) : null];
        put(line.cells[named], there, word, digits);
        const apart = here === null || there === null ? null : toInfinity(here) - toInfinity(there);
        put(line.cells[named + 1], apart, Number.isNaN(apart) ? "-" : word, digits, "+");
      });
      const sorted = heads.findIndex((head) => head.hasAttribute("aria-sort"));
      if (sorted >= first) sort(table, sorted, heads[sorted].getAttribute("aria-sort") === "ascending");
    };
    const toInfinity = (value) => (value === "infinite" ? Infinity : value);
    row.addEventListener("change", show);
    measure.addEventListener("change", show);

    for (const dot of document.querySelectorAll(".scatter [data-scene]")) {
      dot.addEventListener("click", () => {
        const line = document.getElementById(`line-${dot.dataset.scene}`);
        for (const found of document.querySelectorAll("tr.found")) found.classList.remove("found");
        line.classList.add("found");
        line.scrollIntoView({ block: "center" });
      });
    }
  }

  const next = (select) => {
    select.selectedIndex = (select.selectedIndex + 1) % select.options.length;
    select.dispatchEvent(new Event("change"));
  };
  page.onKey((key) => {
    if (key === "m") {
      const now = measures.findIndex((button) => button.getAttribute("aria-pressed") === "true");
      const name = measures[(now + 1) % measures.length].dataset.measure;
      showMeasure(name);
      if (measure && [...measure.options].some((option) => option.value === name)) {
        measure.value = name;
        measure.dispatchEvent(new Event("change"));
      }
    } else if (key === "r" && row) next(row);
    else return false;
    return true;
  });
})();
