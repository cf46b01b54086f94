"use strict";
// Without and with polarization on one place, and a line between them that moves.
(() => {
  const slider = document.getElementById("compare");
  if (!slider) return;
  const sides = ["without", "with"].map((side) => document.getElementById(`compare-${side}`));
  const buttons = [...document.querySelectorAll("#compared button")];
  let split = 50;

  function move(to) {
    split = Math.min(Math.max(to, 0), 100);
    slider.style.setProperty("--split", `${split}%`);
    slider.setAttribute("aria-valuenow", Math.round(split));
    slider.setAttribute("aria-valuetext", `${Math.round(split)} % without, the rest with polarization`);
  }
  function show(button) {
    for (const other of buttons) other.setAttribute("aria-pressed", other === button);
    button.dataset.pair.split(" ").forEach((id, i) => pair.paint(sides[i], id));
  }
  function follow(event) {
    const box = slider.getBoundingClientRect();
    move((100 * (event.clientX - box.left)) / box.width);
  }

  slider.addEventListener("pointerdown", (event) => {
    slider.setPointerCapture(event.pointerId);
    follow(event);
  });
  slider.addEventListener("pointermove", (event) => {
    if (slider.hasPointerCapture(event.pointerId)) follow(event);
  });
  slider.addEventListener("keydown", (event) => {
    const by = event.shiftKey ? 10 : 2;
    const to = { ArrowLeft: split - by, ArrowDown: split - by, ArrowRight: split + by, ArrowUp: split + by, Home: 0, End: 100 };
    if (!(event.key in to)) return;
    move(to[event.key]);
    event.preventDefault();
  });
  for (const button of buttons) button.addEventListener("click", () => show(button));
  page.onKey((key) => {
    if (key !== "d") return false;
    slider.focus();
    slider.scrollIntoView({ block: "center" });
    return true;
  });
  show(buttons[0]);
  move(split);
})();
