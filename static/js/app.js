// Shared by all pages: confirmation of a form, the account menu, logs that follow their end. Live events are in live.js.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  // Confirmation without inline script: <form data-confirm="..."> asks before it is sent.
  document.addEventListener("submit", (event) => {
    const words = event.target.dataset.confirm;
    if (words && !window.confirm(words)) event.preventDefault();
  });
  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  });
  // A choice that takes effect at once; without JavaScript the form has a button.
  document.addEventListener("change", (event) => {
    if (event.target.matches("select[data-submit]")) event.target.form.requestSubmit();
  });
  // A log shows its end, and stays there while it grows, unless somebody scrolled up to read.
  const places = {};
  const follow = () => {
    for (const log of document.querySelectorAll("[data-tail]")) log.scrollTop = places[log.id] ?? log.scrollHeight;
  };
  document.body.addEventListener("htmx:beforeSwap", () => {
    for (const log of document.querySelectorAll("[data-tail]")) {
      const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 24;
      places[log.id] = atEnd ? undefined : log.scrollTop;
    }
  });
  document.body.addEventListener("htmx:afterSettle", follow);
  follow();
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of document.querySelectorAll("details.menu[open]")) menu.open = false;
  });
});
