// The workbench: keys, marks, drafts and the lease. Everything is found anew at each use, because htmx
// replaces #workbench with every judgement.
"use strict";

(() => {
  const KEYS = {
    ArrowLeft: "prefer_a", ArrowRight: "prefer_b", ArrowUp: "approve", ArrowDown: "both_bad",
    "=": "tie", v: "violates", s: "skip",
  };
  const HEARTBEAT_MS = 60000; // well below the lease's 10 minutes
  const SETTLE_MS = 350; // a key pressed twice must not judge a sample that nobody has read
  const DRAFT_MS = 400;

  const at = { shown: 0, visibleMs: 0, since: 0, busy: false, draftTimer: 0 };
  const form = () => document.getElementById("judgement");
  const help = () => document.getElementById("help");

  function say(words) {
    const notice = document.getElementById("review-notice");
    notice.textContent = words;
    notice.hidden = !words;
    notice.classList.toggle("warn", Boolean(words));
    notice.scrollIntoView({ block: "nearest" });
  }

  // --- Judging ---------------------------------------------------------------------------------------

  function press(action) {
    const judged = form();
    const single = judged.dataset.answers === "1";
    const name = single && action === "both_bad" ? "violates" : action;
    const marked = judged.querySelector(".mark:checked");
    if (name === "violates" && !single && !marked) return say("Mark the answers that violate first: 1 or 2.");
    if (name === "approve" && marked) return say("You marked an answer as violating. Take the mark off, or press V.");
    judged.querySelector(`.acts button[name=action][value=${name}]`)?.click();
  }

  function toggleMark(number) {
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

  function isTyping(target) {
    if (target.isContentEditable || target.closest("textarea, select, dialog")) return true;
    return target.matches("input") && !["checkbox", "radio", "button", "submit"].includes(target.type);
  }

  function onKey(event) {
    const { key, target } = event;
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
    if (name === "?") return () => help()?.showModal();
    if (name === "z") return () => document.getElementById("undo")?.requestSubmit();
    const revise = document.getElementById("revise");
    if (name === "r") return revise && (() => revise.click());
    if (!form()) return null;
    if (name === "1" || name === "2") return () => toggleMark(Number(name));
    if (name === "e") return openRewrite;
    // Enter saves marked answers, unless it is meant for the control that has the focus.
    if (name === "Enter" && form().querySelector(".mark:checked") && !target.closest("button, a, summary")) {
      return () => press("violates");
    }
    const action = KEYS[name];
    if (action === "skip" && !form().querySelector(".acts [value=skip]")) return null;
    return action ? () => press(action) : null;
  }

  // --- What a reload must not lose -------------------------------------------------------------------

  const draftName = () => `draft:${form().dataset.sample}`;

  function saveDraft(text) {
    sessionStorage.setItem(draftName(), text);
    const place = form().querySelector("[data-draft]");
    place.textContent = `draft saved ${new Date().toLocaleTimeString("en-GB")}`;
  }

  function restoreDraft() {
    const text = form().querySelector("textarea[name=rewrite]");
    const draft = sessionStorage.getItem(draftName());
    if (!draft || text.value) return;
    text.value = draft;
    document.getElementById("rewrite").open = true;
    form().querySelector("[data-draft]").textContent = "draft restored";
  }

  // --- The lease and the clock -----------------------------------------------------------------------

  async function beat() {
    const judged = form();
    if (!judged?.dataset.heartbeat || document.hidden) return;
    const body = new FormData();
    for (const name of ["token", "csrfmiddlewaretoken"]) body.append(name, judged.elements[name].value);
    let answer;
    try {
      answer = await fetch(judged.dataset.heartbeat, { method: "POST", body });
    } catch {
      return; // offline for a moment: the next beat tells
    }
    if (form() !== judged) return;
    const place = judged.querySelector("[data-lease]");
    if (answer.ok) place.textContent = `yours until ${(await answer.json()).until}`;
    else if (answer.status === 409) {
      place.textContent = "no longer yours";
      delete judged.dataset.heartbeat;
      say("Somebody else has this sample by now. You can still judge it: yours is kept as an extra judgement.");
    }
  }

  function countTime() {
    const now = performance.now();
    if (!document.hidden && at.since) at.visibleMs += now - at.since;
    at.since = document.hidden ? 0 : now;
  }

  function show() {
    at.shown = performance.now();
    at.visibleMs = 0;
    at.since = document.hidden ? 0 : at.shown;
    at.busy = false;
    if (form()) restoreDraft();
  }

  document.addEventListener("DOMContentLoaded", () => {
    show();
    setInterval(beat, HEARTBEAT_MS);
    document.addEventListener("keydown", onKey);
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) at.since = performance.now();
      else if (at.since) at.visibleMs += performance.now() - at.since;
      if (document.hidden) at.since = 0;
    });
    document.addEventListener("change", (event) => {
      if (event.target.matches(".mark")) followMark(event.target);
    });
    document.addEventListener("input", (event) => {
      if (event.target.name !== "rewrite") return;
      clearTimeout(at.draftTimer);
      at.draftTimer = setTimeout(() => form() && saveDraft(event.target.value), DRAFT_MS);
    });
    document.addEventListener("click", (event) => {
      if (event.target.closest("[data-open-help]")) help().showModal();
      if (event.target.closest("[data-open-rewrite]")) openRewrite();
      if (event.target === help()) help().close(); // its backdrop
    });
    document.addEventListener("submit", () => {
      countTime();
      if (form()) form().elements.seconds.value = (at.visibleMs / 1000).toFixed(1);
    }, true); // before htmx reads the form

    document.body.addEventListener("htmx:beforeRequest", (event) => {
      if (event.detail.target.id === "workbench" && event.detail.elt.matches("form, a")) at.busy = true;
    });
    document.body.addEventListener("htmx:afterRequest", () => {
      at.busy = false;
    });
    document.body.addEventListener("htmx:beforeSwap", (event) => {
      const saved = event.detail.xhr.status === 200 && event.detail.requestConfig.verb === "post";
      if (saved && form() && event.detail.requestConfig.elt === form()) sessionStorage.removeItem(draftName());
    });
    document.body.addEventListener("htmx:afterSettle", (event) => {
      if (event.detail.target.id !== "workbench" && event.target.id !== "workbench") return;
      show();
      document.getElementById("question")?.focus({ preventScroll: true });
    });
    // A judgement that did not get through stays on the page, and says so.
    const lost = () => say("That did not reach the server. Nothing is lost: try again in a moment.");
    document.body.addEventListener("htmx:sendError", lost);
    document.body.addEventListener("htmx:responseError", lost);
  });
})();
