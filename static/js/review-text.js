// The texts of the workbench: offsets that survive what is painted over them, and folding. The other
// review-*.js files stand on `readings`. A reading's textContent is the text itself, and stays so.
"use strict";

const readings = (() => {
  // What turns or hides text is named where a text is only quoted; in a reading the server has marked it.
  const ODD = /[\p{Cc}\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\u{e0000}-\u{e007f}]/gu;
  const keys = {}; // a key's name -> what it does; the files that follow add theirs
  const shows = []; // called when another sample, or the same anew, stands on the page
  const layers = new WeakMap(); // reading -> {name: ranges}
  let shown = null;

  const list = () => [...document.querySelectorAll("#judgement [data-answer] .reading")];
  const find = (answer) => document.querySelector(`#judgement [data-answer="${answer}"] .reading`);
  const answerOf = (reading) => Number(reading.closest("[data-answer]").dataset.answer);

  // --- Offsets: the page counts UTF-16 units, the server Unicode code points -------------------------

  const isInsidePair = (text, at) => at > 0 && text.codePointAt(at - 1) > 0xffff;

  function toPoints(text, units) {
    let points = 0;
    for (let at = 0; at < units; at += text.codePointAt(at) > 0xffff ? 2 : 1) points += 1;
    return points;
  }

  function toUnits(text, points) {
    let at = 0;
    for (let left = points; left > 0 && at < text.length; left -= 1) at += text.codePointAt(at) > 0xffff ? 2 : 1;
    return at;
  }

  // Where a place of the page lies in the reading's text; places before or after it count as its ends.
  function unitsAt(reading, node, offset) {
    const before = document.createRange();
    before.selectNodeContents(reading);
    const side = before.comparePoint(node, offset);
    if (side > 0) return reading.textContent.length;
    if (side < 0) return 0;
    before.setEnd(node, offset);
    return before.toString().length;
  }

  function placeAt(reading, units) {
    const walker = document.createTreeWalker(reading, NodeFilter.SHOW_TEXT);
    let left = units;
    let last = null;
    while (walker.nextNode()) {
      last = walker.currentNode;
      if (left <= last.length) return [last, left];
      left -= last.length;
    }
    return last ? [last, last.length] : [reading, 0];
  }

  function name(text) {
    return text.replace(ODD, (sign) => (/[\t\n\r]/.test(sign) ? sign : `‹U+${sign.codePointAt(0).toString(16).toUpperCase()}›`));
  }

  // --- Painting: layers of ranges {start, end, tag, kind, title, say} in units ---------------------

  function paint(reading, layer, ranges) {
    const painted = layers.get(reading) || layers.set(reading, adopt(reading)).get(reading);
    if (!ranges.length && !painted[layer]?.length) return;
    painted[layer] = ranges;
    for (const old of reading.querySelectorAll("mark, ins, del")) old.replaceWith(...old.childNodes);
    reading.normalize();
    wrap(reading, Object.values(painted).flat().filter(Boolean).sort((a, b) => a.start - b.start));
  }

  // What the server marked for the critic is one more layer; own passages come from the form's field.
  function adopt(reading) {
    const critic = [...reading.querySelectorAll("mark.critic")].map((mark) => {
      const start = unitsAt(reading, mark, 0);
      const title = "The critic points here";
      return { start, end: start + mark.textContent.length, tag: "mark", kind: "critic", title, say: `${title}: ` };
    });
    return { critic, own: reading.querySelector("mark.own") ? [null] : [] };
  }

  function wrap(reading, ranges) {
    const edges = [...new Set(ranges.flatMap((range) => [range.start, range.end]))].sort((a, b) => a - b);
    const walker = document.createTreeWalker(reading, NodeFilter.SHOW_TEXT);
    const nodes = [];
    while (walker.nextNode()) nodes.push(walker.currentNode);
    let [at, next, begun] = [0, 0, 0];
    let active = [];
    for (const whole of nodes) {
      let node = whole;
      const end = at + node.length;
      while (at < end) {
        while (next < edges.length && edges[next] <= at) next += 1;
        const stop = Math.min(end, edges[next] ?? end);
        const rest = stop < end ? node.splitText(stop - at) : null;
        while (begun < ranges.length && ranges[begun].start <= at) active.push(ranges[begun++]);
        active = active.filter((range) => range.end > at);
        if (active.length) enclose(node, active);
        at = stop;
        node = rest;
      }
    }
  }

  function enclose(node, active) {
    for (const tag of ["ins", "del", "mark"]) { // a mark is outermost
      const here = active.filter((range) => range.tag === tag);
      if (!here.length) continue;
      const around = document.createElement(tag);
      around.className = [...new Set(here.map((range) => range.kind))].join(" ");
      around.title = [...new Set(here.map((range) => range.title))].join("; ");
      around.dataset.say = here.map((range) => range.say).join("");
      const inner = node.parentNode.matches("ins, del") ? node.parentNode : node;
      inner.replaceWith(around);
      around.append(inner);
    }
  }

  // --- Keys and swaps ------------------------------------------------------------------------------

  function isTyping(target) {
    return target.isContentEditable || Boolean(target.closest("textarea, select, dialog, input:not([type=checkbox], [type=radio])"));
  }

  function fold() {
    const boxes = [...document.querySelectorAll("#judgement .fold input")];
    const open = boxes.some((box) => !box.checked);
    for (const box of boxes) box.checked = open;
  }

  function look() {
    const first = list()[0] || null;
    if (first === shown) return;
    shown = first;
    if (first) for (const show of shows) show();
  }

  keys.f = fold;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || isTyping(event.target)) return;
    const act = list().length && keys[event.key.toLowerCase()];
    if (!act) return;
    event.preventDefault();
    act();
  });
  document.addEventListener("restored", () => shows.forEach((show) => show()));
  document.addEventListener("DOMContentLoaded", () => {
    look();
    new MutationObserver(look).observe(document.getElementById("content"), { childList: true, subtree: true });
  });

  return { keys, shows, list, find, answerOf, isInsidePair, isTyping, toPoints, toUnits, unitsAt, placeAt, name, paint };
})();
