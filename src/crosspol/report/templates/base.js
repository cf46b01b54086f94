"use strict";
// What every page has: values from its JSON elements, the theme, the list of keys.
const page = {
  // The value of <script type="application/json" id=...>.
  read(id) {
    return JSON.parse(document.getElementById(id).textContent);
  },

  // The bytes of base64, at once where the browser can.
  bytes(text) {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
    const characters = atob(text);
    const found = new Uint8Array(characters.length);
    for (let i = 0; i < found.length; i++) found[i] = characters.charCodeAt(i);
    return found;
  },

  // An array of pack() in page.py: its codes, and at(i), the value of an element, NaN where it is not known.
  decode(packed) {
    const bytes = page.bytes(packed.codes);
    const wide = packed.bits === 16;
    const view = new DataView(bytes.buffer);
    const codes = wide ? new Uint16Array(bytes.length / 2) : bytes;
    if (wide) for (let i = 0; i < codes.length; i++) codes[i] = view.getUint16(2 * i, true);
    const unknown = wide ? 65535 : 255;
    const { shape, low, step } = packed;
    return { shape, codes, unknown, low, step, at: (i) => (codes[i] === unknown ? NaN : low + codes[i] * step) };
  },

  // What draws on a canvas, in memory: these are small, and copied and read back.
  pen(canvas) {
    return canvas.getContext("2d", { willReadFrequently: true });
  },

  // A key that the page takes: not while somebody writes, and not together with a modifier.
  onKey(handle) {
    document.addEventListener("keydown", (event) => {
      const busy = event.target instanceof Element && event.target.closest("input, select, textarea, dialog[open]");
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || busy) return;
      if (handle(event.key, event)) event.preventDefault();
    });
  },

  isDark() {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  },
};

(() => {
  const theme = document.getElementById("theme");
  const keys = document.getElementById("keys");
  const label = () => { theme.textContent = page.isDark() ? "Light" : "Dark"; };
  const turn = () => {
    document.documentElement.dataset.theme = page.isDark() ? "light" : "dark";
    document.dispatchEvent(new Event("themechange"));
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    document.dispatchEvent(new Event("themechange"));
  });
  document.addEventListener("themechange", label);
  theme.addEventListener("click", turn);
  document.getElementById("help").addEventListener("click", () => keys.showModal());
  page.onKey((key) => {
    if (key === "t") turn();
    else if (key === "?") keys.showModal();
    else return false;
    return true;
  });
  label();
})();
