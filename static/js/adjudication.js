// Disputes by keyboard: 1 to 9 approve a judgement, O opens the own decision, A asks one more person, N leaves it
// for later, Z takes the last decision back. Everything is found anew at each use, because htmx replaces the page.
"use strict";

(() => {
  const SETTLE_MS = 350; // a key pressed twice must not decide a dispute that nobody has read
  const at = { shown: 0, busy: false };
  const find = (selector) => document.querySelector(selector);

  function isTyping(target) {
    if (target.isContentEditable || target.closest("textarea, select, dialog")) return true;
    return target.matches("input") && !["checkbox", "radio", "button", "submit"].includes(target.type);
  }

  function openOwn() {
    const own = find("#own");
    own.open = true;
    own.querySelector("input, button").focus({ preventScroll: true });
    own.scrollIntoView({ block: "nearest" });
  }

  // Looks for what a key does on this page; null where it does nothing.
  function findAct(name) {
    const press = (selector) => find(selector) && (() => find(selector).click());
    if (/^[1-9]$/.test(name)) return press(`[data-approve="${name}"]`);
    if (name === "a") return press("#decision [name=ask]");
    if (name === "n") return press("#next-dispute");
    if (name === "z") return press("#undo-decision button");
    return name === "o" && find("#own") ? openOwn : null;
  }

  function onKey(event) {
    const { key, target } = event;
    if (target.name === "rewrite" && key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      find("#own [value=rewrite]").click();
      return;
    }
    if (isTyping(target)) {
      if (key === "Escape") target.blur();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
    const act = findAct(key.toLowerCase());
    if (!act) return;
    event.preventDefault();
    if (!at.busy && performance.now() - at.shown >= SETTLE_MS) act();
  }

  function say(words) {
    const notice = find("#adjudication-notice");
    notice.textContent = words;
    notice.hidden = false;
    notice.scrollIntoView({ block: "nearest" });
  }

  document.addEventListener("DOMContentLoaded", () => {
    at.shown = performance.now();
    document.addEventListener("keydown", onKey);
    document.body.addEventListener("htmx:beforeRequest", (event) => {
      if (event.detail.target.id === "adjudication") at.busy = true;
    });
    document.body.addEventListener("htmx:afterRequest", () => {
      at.busy = false;
    });
    document.body.addEventListener("htmx:afterSettle", (event) => {
      if (event.detail.target.id !== "adjudication" && event.target.id !== "adjudication") return;
      at.shown = performance.now();
      find("#dispute")?.focus({ preventScroll: true });
    });
    const lost = () => say("That did not reach the server. Nothing is lost: try again in a moment.");
    document.body.addEventListener("htmx:sendError", lost);
    document.body.addEventListener("htmx:responseError", lost);
  });
})();
