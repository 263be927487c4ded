// The clock of the workbench: seconds of activity, and the reminder of a break.
//
// Time counts while the page is visible and somebody pressed, pointed, scrolled or touched within the last 30
// seconds; what was counted for a sample goes with its judgement.
"use strict";

window.review = window.review || {};

(() => {
  const IDLE_MS = 30000;
  const CHECK_MS = 5000;
  const LATER_MS = 10 * 60000;
  const ACTIVITY = ["keydown", "pointerdown", "pointermove", "wheel", "scroll", "touchstart"];
  const KEPT = "review-active"; // milliseconds since the last break, for the tab: a reload is no break
  const DUE = "review-break-due";

  const at = { sampleMs: 0, workMs: 0, counted: 0, active: 0 };

  function count() {
    const now = performance.now();
    const end = Math.min(now, at.active + IDLE_MS);
    const gained = at.counted && end > at.counted ? end - at.counted : 0;
    at.sampleMs += gained;
    at.workMs += gained;
    at.counted = document.hidden ? 0 : now;
  }

  function act() {
    count();
    at.active = performance.now();
  }

  function turn() {
    if (document.hidden) {
      const now = performance.now();
      at.counted = Math.min(at.counted, now);
      count();
      at.counted = 0;
    } else {
      at.counted = performance.now();
      at.active = at.counted; // coming back is activity
    }
  }

  const banner = () => document.getElementById("break");

  function remind() {
    count();
    sessionStorage.setItem(KEPT, String(Math.round(at.workMs)));
    const minutes = Number(banner()?.dataset.minutes ?? 0);
    const due = Math.max(minutes * 60000, Number(sessionStorage.getItem(DUE) ?? 0));
    if (!minutes || at.workMs < due || !banner().hidden) return;
    banner().querySelector("[data-minutes-done]").textContent = String(Math.round(at.workMs / 60000));
    banner().hidden = false;
  }

  function dismiss(later) {
    if (later) sessionStorage.setItem(DUE, String(at.workMs + LATER_MS));
    else sessionStorage.removeItem(DUE);
    if (!later) at.workMs = 0;
    banner().hidden = true;
    remind();
  }

  window.review.clock = {
    // A new sample is shown.
    start() {
      act();
      at.sampleMs = 0;
    },
    // Seconds of activity since then.
    read() {
      count();
      return at.sampleMs / 1000;
    },
  };

  document.addEventListener("DOMContentLoaded", () => {
    at.workMs = Number(sessionStorage.getItem(KEPT) ?? 0);
    for (const name of ACTIVITY) document.addEventListener(name, act, { capture: true, passive: true });
    document.addEventListener("visibilitychange", turn);
    document.addEventListener("click", (event) => {
      if (event.target.closest("[data-break-later]")) dismiss(true);
      if (event.target.closest("[data-break-now]")) dismiss(false);
    });
    setInterval(remind, CHECK_MS);
    remind();
  });
})();
