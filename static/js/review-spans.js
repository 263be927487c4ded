// Marking passages: what is selected in an answer is tied to a principle. The form's field `spans` holds the
// passages of the answers and principles that are ticked, in code points; the server checks them by their quotes.
"use strict";

(() => {
  const MOST = 50; // passages that the server takes
  const QUOTED = 200; // code points: a longer passage is sent without its quote
  const WAIT_MS = 200; // the selection has come to rest
  const at = { spans: [], timer: 0, pressed: false, chosen: null, back: null };

  const field = () => document.querySelector("#judgement [name=spans]");
  const menu = () => document.getElementById("span-menu");
  const markBox = (answer) => document.querySelector(`#judgement .mark[value="${answer}"]`);
  const principles = (answer) => [...document.querySelectorAll(`#judgement [name="principle-${answer}"]`)];
  const titleOf = (box) => box.closest("label").textContent.trim();
  const boxOf = (span) => principles(span.answer).find((box) => box.value === span.principle);
  const isActive = (span) => Boolean(markBox(span.answer)?.checked && boxOf(span)?.checked);

  // --- The passages: kept, painted, listed -----------------------------------------------------------

  function read() {
    close();
    try {
      at.spans = JSON.parse(field()?.value || "[]").filter((span) => readings.find(span.answer) && boxOf(span));
    } catch {
      at.spans = [];
    }
    for (const reading of readings.list()) {
      reading.tabIndex = 0;
      reading.setAttribute("role", "group");
      reading.setAttribute("aria-label", `Answer ${letter(reading)}: arrow keys choose words, M marks them`);
      paint(reading);
    }
  }

  const letter = (reading) => "ABCDEFGH"[readings.answerOf(reading)];

  function paint(reading) {
    const answer = readings.answerOf(reading);
    const text = reading.textContent;
    const here = at.spans.filter((span) => span.answer === answer && isActive(span));
    const ranges = here.map((span) => {
      const title = titleOf(boxOf(span));
      const [start, end] = [readings.toUnits(text, span.start), readings.toUnits(text, span.end)];
      return { start, end, tag: "mark", kind: "own", title, say: `you marked, ${title}: ` };
    });
    readings.paint(reading, "own", ranges);
    list(reading, here.map((span, index) => [span, text.slice(ranges[index].start, ranges[index].end), ranges[index].title]));
  }

  function list(reading, rows) {
    const place = reading.closest(".reply").querySelector("[data-passages]");
    place.hidden = !rows.length;
    place.replaceChildren(...rows.map(([span, quote, title]) => {
      const [row, words, chip, button] = ["li", "bdi", "span", "button"].map((tag) => document.createElement(tag));
      words.textContent = `“${readings.name([...quote.slice(0, 400)].slice(0, 120).join(""))}”`;
      [chip.className, chip.textContent] = ["chip bad", title];
      [button.className, button.type, button.textContent] = ["btn small ghost", "button", "Remove"];
      button.setAttribute("aria-label", `Remove the mark ${title} from ${words.textContent}`);
      button.addEventListener("click", () => {
        at.spans = at.spans.filter((other) => other !== span);
        sync();
        (place.querySelector("button") || reading).focus();
      });
      row.append(chip, words, button);
      return row;
    }));
  }

  function sync() {
    const kept = at.spans.filter(isActive);
    const value = kept.length ? JSON.stringify(kept) : "";
    if (value !== field().value) {
      field().value = value;
      field().dispatchEvent(new Event("input", { bubbles: true })); // for the draft
    }
    readings.list().forEach(paint);
  }

  function add(principle) {
    const { reading, start, end } = at.chosen;
    const [text, answer] = [reading.textContent, readings.answerOf(reading)];
    const quote = text.slice(start, end);
    const span = { answer, start: readings.toPoints(text, start), end: readings.toPoints(text, end), principle };
    if ([...quote].length <= QUOTED) span.quote = quote;
    const known = at.spans.some((other) => ["answer", "start", "end", "principle"].every((name) => other[name] === span[name]));
    if (!known) at.spans.push(span);
    const boxes = [boxOf(span), markBox(answer)]; // the principle first: a mark without one ticks that in question
    for (const box of boxes.filter((each) => !each.checked)) {
      box.checked = true;
      box.dispatchEvent(new Event("change", { bubbles: true }));
    }
    boxes[0].closest("details")?.setAttribute("open", "");
    sync();
    window.review.announce(`Marked for ${titleOf(boxes[0])}.`);
    getSelection().removeAllRanges();
    close();
  }

  // --- The selection ---------------------------------------------------------------------------------

  // {reading, start, end} in units, without white space at its ends, never half a character; null if nothing.
  function selected() {
    const selection = getSelection();
    if (!selection.rangeCount || selection.isCollapsed) return null;
    const range = selection.getRangeAt(0);
    const reading = readings.list().find((each) => range.intersectsNode(each));
    if (!reading) return null;
    const text = reading.textContent;
    let start = readings.unitsAt(reading, range.startContainer, range.startOffset);
    let end = readings.unitsAt(reading, range.endContainer, range.endOffset);
    if (readings.isInsidePair(text, start)) start -= 1;
    if (readings.isInsidePair(text, end)) end += 1;
    while (start < end && /\s/.test(text[start])) start += 1;
    while (end > start && /\s/.test(text[end - 1])) end -= 1;
    return end > start ? { reading, start, end, rect: range.getBoundingClientRect() } : null;
  }

  // Without a mouse: the arrow keys choose words, with Shift more of them.
  function choose(reading, key, extend) {
    const words = readings.tokens(reading.textContent, "word").filter((token) => token.isWord);
    if (!words.length) return;
    const now = selected();
    const mine = now?.reading === reading ? now : null;
    const forward = key === "ArrowRight";
    let first = mine ? words.findIndex((word) => word.end > mine.start) : -1;
    let last = mine ? words.findLastIndex((word) => word.start < mine.end) : -1;
    if (!mine) first = last = forward ? 0 : words.length - 1;
    else if (forward) last = Math.min(last + 1, words.length - 1);
    else if (extend) last = Math.max(last - 1, first);
    else first = Math.max(first - 1, 0);
    if (mine && !extend) first = last = forward ? last : first;
    const [from, to] = [readings.placeAt(reading, words[first].start), readings.placeAt(reading, words[last].end)];
    getSelection().setBaseAndExtent(...from, ...to);
    to[0].parentElement.scrollIntoView({ block: "nearest" });
  }

  // --- The menu --------------------------------------------------------------------------------------

  function open(focus) {
    at.chosen = field() && selected();
    if (!at.chosen) return close();
    if (at.spans.length >= MOST) return window.review.say(`${MOST} passages are marked: remove one first.`);
    close();
    at.chosen = selected();
    const box = document.createElement("div");
    box.id = "span-menu";
    box.className = "span-menu";
    box.setAttribute("role", "dialog");
    box.setAttribute("aria-label", "Which principle does this passage violate?");
    const title = document.createElement("p");
    title.textContent = "This passage violates";
    box.append(title, ...principles(readings.answerOf(at.chosen.reading)).map(offer));
    document.getElementById("content").append(box);
    place(box, at.chosen.rect);
    at.back = document.activeElement;
    if (focus) box.querySelector("button").focus();
  }

  function offer(principle, index) {
    const button = document.createElement("button");
    button.type = "button";
    const number = document.createElement("kbd");
    number.textContent = index + 1;
    button.append(...(index < 9 ? [number, " "] : []), titleOf(principle));
    // Pressing must not take the selection away, whose words are still to be seen.
    button.addEventListener("pointerdown", (event) => event.preventDefault());
    button.addEventListener("click", () => add(principle.value));
    return button;
  }

  function place(box, rect) {
    const { width, height } = box.getBoundingClientRect();
    const below = rect.bottom + 8;
    const top = below + height < innerHeight - 8 ? below : Math.max(8, rect.top - height - 8);
    const left = Math.max(8, Math.min(rect.left, document.documentElement.clientWidth - width - 8));
    box.style.left = `${left + scrollX}px`;
    box.style.top = `${(rect.top > innerHeight ? 8 : top) + scrollY}px`;
  }

  function close() {
    if (!menu()) return;
    const back = menu().contains(document.activeElement) && at.back?.isConnected ? at.back : null;
    menu().remove();
    at.chosen = null;
    back?.focus({ preventScroll: true });
  }

  function menuKey(event) {
    const buttons = [...menu().querySelectorAll("button")];
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const inside = buttons.indexOf(document.activeElement);
    if (event.key === "Escape") close();
    else if (/^[1-9]$/.test(event.key)) buttons[event.key - 1]?.click();
    else if (step && inside >= 0) buttons[(inside + step + buttons.length) % buttons.length].focus();
    else return inside >= 0 && !["Enter", " ", "Tab"].includes(event.key); // nothing judges while it has the focus
    event.preventDefault();
    return true;
  }

  // Before the keys that judge: true where the key was meant for the text or the menu.
  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || readings.isTyping(event.target)) return false;
    if (menu() && menuKey(event)) return true;
    const arrow = event.key.startsWith("Arrow");
    const reading = event.target.matches("#judgement .reading") ? event.target : null;
    if (reading && ["ArrowLeft", "ArrowRight"].includes(event.key)) {
      event.preventDefault();
      choose(reading, event.key, event.shiftKey);
      return true;
    }
    return arrow && (reading !== null || event.shiftKey); // scrolling, or a selection in caret browsing
  }

  readings.keys.m = () => open(true);
  readings.shows.push(read);
  document.addEventListener("keydown", (event) => {
    at.pressed = false;
    if (onKey(event)) event.stopPropagation();
  }, true);
  document.addEventListener("selectionchange", () => {
    clearTimeout(at.timer);
    at.timer = setTimeout(() => {
      const inMenu = menu()?.contains(document.activeElement);
      const byArrows = document.activeElement?.matches("#judgement .reading");
      if (!at.pressed && !inMenu && !byArrows && readings.list().length) open(false);
    }, WAIT_MS);
  });
  document.addEventListener("pointerdown", (event) => {
    at.pressed = true;
    if (!event.target.closest("#span-menu")) close();
  });
  for (const name of ["pointerup", "pointercancel"]) {
    document.addEventListener(name, (event) => {
      at.pressed = false;
      if (event.target.closest?.("#judgement [data-answer]")) document.dispatchEvent(new Event("selectionchange"));
    });
  }
  // A click on the text must not turn the arrow keys, which judge, into those that choose words.
  document.addEventListener("focusin", (event) => {
    if (at.pressed && event.target.matches("#judgement .reading")) event.target.blur();
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("#judgement .mark, #judgement [name^=principle-]") && field()) sync();
  });
})();
