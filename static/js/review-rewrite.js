// The rewrite with what it changes, as it is typed.
"use strict";

(() => {
  const EVERY_MS = 150;
  const LONGEST = 20000; // characters that the server takes
  let timer = 0;

  const box = () => document.querySelector("#judgement textarea[name=rewrite]");
  const chosen = () => document.querySelector("#judgement [name=rewrite_of]");

  function piece(tag, text, say) {
    const node = document.createElement(tag);
    const heard = document.createElement("span");
    heard.className = "sr";
    heard.textContent = say;
    node.append(heard, readings.name(text));
    return node;
  }

  function show() {
    timer = 0;
    const place = document.querySelector("#judgement [data-changes]");
    if (!place || !box()) return;
    const [count, changed] = [place.querySelector("[data-count]"), place.querySelector(".changed")];
    const text = box().value;
    const original = chosen().value === "" ? null : readings.find(chosen().value);
    place.hidden = !text.trim();
    changed.hidden = !original;
    changed.replaceChildren();
    if (place.hidden) return;
    if (!original) {
      count.textContent = "Choose the answer that it improves, to see what it changes.";
      return;
    }
    const before = original.textContent;
    const found = readings.compare(before, text);
    count.textContent = readings.describe(found, "changed").replace("No word differs.", "No word changed");
    changed.hidden = !found.hunks.length;
    let at = 0;
    for (const { a, b } of found.hunks) {
      changed.append(readings.name(text.slice(at, b[0])));
      if (at === b[0] && at > 0) changed.append(" ");
      if (a[1] > a[0]) changed.append(piece("del", before.slice(...a), "removed: "), b[1] > b[0] ? " " : "");
      if (b[1] > b[0]) changed.append(piece("ins", text.slice(...b), "added: "));
      at = b[1];
    }
    changed.append(readings.name(text.slice(at)));
  }

  function startFrom(answer) {
    const text = readings.find(answer).textContent;
    const rewrite = box();
    if (rewrite.value.trim() && rewrite.value !== text && !window.confirm("Replace what you have written?")) return;
    rewrite.value = text.slice(0, LONGEST);
    chosen().value = answer;
    rewrite.dispatchEvent(new Event("input", { bubbles: true }));
    rewrite.focus();
  }

  function showSoon() {
    timer ||= setTimeout(show, EVERY_MS);
  }

  readings.shows.push(showSoon);
  document.addEventListener("input", (event) => {
    if (["rewrite", "rewrite_of"].includes(event.target.name)) showSoon();
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-start-from]");
    if (button) startFrom(button.dataset.startFrom);
  });
})();
