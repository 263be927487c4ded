// The workbench: its keys, marks and notices. Everything is found anew at each use, because every judgement
// replaces #sample or the whole of #workbench. Beside it: review-time, review-draft, review-lease, review-ahead.
"use strict";

window.review = window.review || {};

(() => {
  const KEYS = {
    ArrowLeft: "prefer_a", ArrowRight: "prefer_b", ArrowUp: "approve", ArrowDown: "both_bad",
    "=": "tie", v: "violates",
  };
  const SETTLE_MS = 350; // a key pressed twice must not judge a sample that nobody has read
  const HIDDEN = "Reveal it first, with B. Skip and Later work without.";

  const at = { shown: 0, busy: false };
  const form = () => document.getElementById("judgement");
  const help = () => document.getElementById("help");
  const skip = () => document.getElementById("skip");
  const isVeiled = () => Boolean(form()?.querySelector(".veil[inert]"));

  function say(words) {
    const notice = document.getElementById("review-notice");
    notice.textContent = words;
    notice.hidden = !words;
    notice.classList.toggle("warn", Boolean(words));
    if (words) notice.scrollIntoView({ block: "nearest" });
  }

  function announce(words) {
    document.getElementById("review-said").textContent = words.replace(/\s+/g, " ").trim();
  }

  // --- Judging ---------------------------------------------------------------------------------------

  function press(action) {
    const judged = form();
    const single = judged.dataset.answers === "1";
    const name = single && action === "both_bad" ? "violates" : action;
    const marked = judged.querySelector(".mark:checked");
    if (isVeiled()) return say(HIDDEN);
    if (name === "violates" && !single && !marked) return say("Mark the answers that violate first: 1 or 2.");
    if (name === "approve" && marked) return say("You marked an answer as violating. Take the mark off, or press V.");
    judged.querySelector(`.acts button[name=action][value=${name}]`)?.click();
  }

  function toggleMark(number) {
    if (isVeiled()) return say(HIDDEN);
    form().querySelectorAll(".mark")[number - 1]?.click();
  }

  // The principle in question is chosen only once the answer has been marked.
  function followMark(mark) {
    const chosen = mark.closest(".reply").querySelectorAll(".choice input");
    const principle = form().dataset.principle;
    if (mark.checked && ![...chosen].some((box) => box.checked)) {
      for (const box of chosen) box.checked = box.value === principle;
    }
    say("");
  }

  function openRewrite() {
    const box = document.getElementById("rewrite");
    box.open = true;
    box.querySelector("textarea").focus({ preventScroll: true });
    box.scrollIntoView({ block: "nearest" }); // clear of the actions, which lie over the page's end
  }

  function openSkip() {
    skip().open = true;
    skip().querySelector("button").focus({ preventScroll: true });
  }

  function closeSkip() {
    if (!skip()?.open) return;
    skip().open = false;
    skip().querySelector("summary").focus({ preventScroll: true });
  }

  function toggleVeil() {
    const cover = form().querySelector(".veil-cover");
    const hide = !isVeiled();
    for (const veil of form().querySelectorAll(".veil")) {
      veil.inert = hide;
      if (hide) veil.setAttribute("aria-hidden", "true");
      else veil.removeAttribute("aria-hidden");
    }
    cover.classList.toggle("open", !hide);
    cover.querySelector("[data-reveal]").lastChild.textContent = hide ? " Reveal" : " Hide again";
    say("");
  }

  // --- Keys ------------------------------------------------------------------------------------------

  function isTyping(target) {
    if (target.isContentEditable || target.closest("textarea, select, dialog")) return true;
    return target.matches("input") && !["checkbox", "radio", "button", "submit"].includes(target.type);
  }

  function onKey(event) {
    const { key, target } = event;
    if (event.defaultPrevented) return; // another part of the page took it
    if (target.name === "rewrite" && key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      document.querySelector("#rewrite button[value=rewrite]").click();
      return;
    }
    if (isTyping(target)) {
      if (key === "Escape" && !target.closest("dialog")) target.blur();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
    const name = key.length === 1 ? key.toLowerCase() : key;
    const act = findAct(name, target);
    if (!act) return;
    event.preventDefault();
    const settling = at.busy || performance.now() - at.shown < SETTLE_MS;
    if (settling && name !== "?") return;
    act();
  }

  function findAct(name, target) {
    if (skip()?.open) return findReason(name);
    if (name === "?") return () => help()?.showModal();
    if (name === "z") return () => document.getElementById("undo")?.requestSubmit();
    const revise = document.getElementById("revise");
    if (name === "r") return revise && (() => revise.click());
    if (!form()) return null;
    if (name === "1" || name === "2") return () => toggleMark(Number(name));
    if (name === "e") return openRewrite;
    if (name === "s") return skip() && openSkip;
    if (name === "p") return () => document.getElementById("postpone")?.click();
    if (name === "b") return form().querySelector("[data-reveal]") && toggleVeil;
    // Enter saves marked answers, unless it is meant for the control that has the focus.
    if (name === "Enter" && form().querySelector(".mark:checked") && !target.closest("button, a, summary")) {
      return () => press("violates");
    }
    const action = KEYS[name];
    return action ? () => press(action) : null;
  }

  // The reasons are open: their keys are the only ones.
  function findReason(name) {
    const reasons = [...skip().querySelectorAll("button")];
    if (name === "Escape") return closeSkip;
    if (name === "s") return () => reasons.at(-1).click();
    return ["1", "2", "3"].includes(name) ? () => reasons[Number(name) - 1].click() : null;
  }

  // --- What is shown ---------------------------------------------------------------------------------

  function show() {
    at.shown = performance.now();
    at.busy = false;
    window.review.clock.start();
    const url = document.getElementById("sample")?.dataset.url ?? "/review/";
    history.replaceState(history.state, "", url); // the address names the sample
    say("");
    if (form()) window.review.drafts.show(form());
  }

  // Another sample in place of the last one: who listens and who works by keys starts at its heading.
  function showNext() {
    show();
    const question = document.getElementById("question");
    if (!question) return; // the page that waits asks anew by itself: it stays where it is
    question.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }

  Object.assign(window.review, { say, announce, showNext });

  function onClick(event) {
    const { target } = event;
    if (target.closest("[data-open-help]")) help().showModal();
    if (target.closest("[data-open-rewrite]")) openRewrite();
    if (target === help()) help().close(); // its backdrop
    if (target.closest("[data-reveal]")) {
      event.preventDefault();
      toggleVeil();
    }
    if (skip()?.open && !skip().contains(target)) skip().open = false;
  }

  document.addEventListener("DOMContentLoaded", () => {
    const notice = document.getElementById("review-notice").textContent;
    show();
    say(notice);
    window.review.ahead.fetch();
    document.addEventListener("keydown", onKey);
    document.addEventListener("click", onClick);
    document.addEventListener("change", (event) => {
      if (event.target.matches(".mark")) followMark(event.target);
    });

    document.body.addEventListener("htmx:beforeRequest", (event) => {
      if (event.detail.target.id === "workbench" && event.detail.elt.matches("form, a")) at.busy = true;
    });
    document.body.addEventListener("htmx:afterRequest", () => {
      at.busy = false;
    });
    document.body.addEventListener("htmx:beforeSwap", (event) => {
      const saved = event.detail.xhr.status === 200 && event.detail.requestConfig.verb === "post";
      if (saved && form() && event.detail.requestConfig.elt === form()) window.review.drafts.forget(form());
    });
    document.body.addEventListener("htmx:afterSettle", (event) => {
      if (event.detail.target.id !== "workbench" && event.target.id !== "workbench") return;
      const words = document.getElementById("review-notice").textContent;
      showNext();
      say(words);
      window.review.ahead.fetch();
    });
    // A judgement that did not get through stays on the page, and says so.
    const lost = () => say("That did not reach the server. Nothing is lost: try again in a moment.");
    document.body.addEventListener("htmx:sendError", lost);
    document.body.addEventListener("htmx:responseError", lost);
  });
})();
