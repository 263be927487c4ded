// What differs between two texts, word by word (or by sentences where they are too long), and key D, which
// paints it over the answers A and B.
"use strict";

(() => {
  const MOST_CELLS = 16e6; // of the table: two times 4,000 words; about 60 ms and 32 MB
  const KEPT = "differences"; // in localStorage: who compares one pair compares the next, too
  const segmenters = {};

  // Words and other signs, each with its place; white space is no part of the comparison.
  function tokens(text, granularity) {
    segmenters[granularity] ||= new Intl.Segmenter(undefined, { granularity });
    const found = [];
    for (const { segment, index, isWordLike } of segmenters[granularity].segment(text)) {
      const word = segment.trimEnd();
      if (!word.trim()) continue;
      const start = index + word.length - word.trimStart().length;
      found.push({ same: word.trim().normalize("NFC"), start, end: index + word.length, isWord: isWordLike ?? true });
    }
    return found;
  }

  // The longest common subsequence, as [a from, a to, b from, b to] for each stretch that differs; null if too long.
  function stretches(a, b) {
    let head = 0;
    while (head < a.length && head < b.length && a[head] === b[head]) head += 1;
    let [n, m] = [a.length, b.length];
    while (n > head && m > head && a[n - 1] === b[m - 1]) [n, m] = [n - 1, m - 1];
    const width = m - head + 1;
    if ((n - head + 1) * width > MOST_CELLS) return null;
    const table = new Uint16Array((n - head + 1) * width); // lengths of what is common from here on
    for (let i = n - 1; i >= head; i -= 1) {
      const row = (i - head) * width;
      for (let j = m - 1; j >= head; j -= 1) {
        const at = row + j - head;
        table[at] = a[i] === b[j] ? table[at + width + 1] + 1 : Math.max(table[at + width], table[at + 1]);
      }
    }
    const found = [];
    let [i, j] = [head, head];
    while (i < n || j < m) {
      const [fromI, fromJ] = [i, j];
      while ((i < n || j < m) && !(i < n && j < m && a[i] === b[j])) {
        const at = (i - head) * width + j - head;
        if (j >= m || (i < n && table[at + width] >= table[at + 1])) i += 1;
        else j += 1;
      }
      if (i > fromI || j > fromJ) found.push([fromI, i, fromJ, j]);
      while (i < n && j < m && a[i] === b[j]) [i, j] = [i + 1, j + 1];
    }
    return found;
  }

  // {unit, changed, hunks: [{a: [start, end], b: [start, end]}]}, offsets in UTF-16 units; unit null: too long.
  function compare(before, after) {
    for (const unit of ["word", "sentence"]) {
      const [a, b] = [tokens(before, unit), tokens(after, unit)];
      const ids = new Map();
      const number = (token) => ids.get(token.same) ?? ids.set(token.same, ids.size).get(token.same);
      const found = stretches(a.map(number), b.map(number));
      if (!found) continue;
      const words = (some, from, to) => some.slice(from, to).filter((token) => token.isWord).length;
      const place = (some, from, to) => (to > from ? [some[from].start, some[to - 1].end] : [some[from - 1]?.end ?? 0, some[from - 1]?.end ?? 0]);
      return {
        unit,
        changed: found.reduce((sum, [i, k, j, l]) => sum + Math.max(words(a, i, k), words(b, j, l)), 0),
        hunks: found.map(([i, k, j, l]) => ({ a: place(a, i, k), b: place(b, j, l) })),
      };
    }
    return { unit: null, changed: 0, hunks: [] };
  }

  function describe({ unit, changed, hunks }, verb) {
    if (unit === null) return "These texts are too long to compare.";
    if (!hunks.length) return "No word differs.";
    const plural = changed === 1 ? "" : "s";
    if (unit === "sentence") return `${changed} sentence${plural} ${verb}; too long to compare by words.`;
    return changed ? `${changed} word${plural} ${verb}` : `Only punctuation ${verb}`;
  }

  function show() {
    const button = document.querySelector("#judgement [data-differences]");
    if (!button) return;
    const on = localStorage.getItem(KEPT) === "on";
    const [a, b] = readings.list();
    const found = on ? compare(a.textContent, b.textContent) : { hunks: [] };
    button.setAttribute("aria-pressed", String(on));
    document.querySelector("#judgement [data-differ]").textContent = on ? describe(found, "differ") : "";
    const range = (tag, title) => ([start, end]) => ({ start, end, tag, kind: "differs", title, say: `${title}: ` });
    const lasting = ({ start, end }) => end > start;
    readings.paint(a, "differs", found.hunks.map((hunk) => hunk.a).map(range("del", "only in A")).filter(lasting));
    readings.paint(b, "differs", found.hunks.map((hunk) => hunk.b).map(range("ins", "only in B")).filter(lasting));
  }

  function toggle() {
    if (!document.querySelector("#judgement [data-differences]")) return;
    localStorage.setItem(KEPT, localStorage.getItem(KEPT) === "on" ? "off" : "on");
    show();
  }

  Object.assign(readings, { compare, describe, tokens });
  readings.keys.d = toggle;
  readings.shows.push(() => setTimeout(show)); // the next sample is painted first
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-differences]")) toggle();
  });
})();
