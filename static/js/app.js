// Shared by all pages: confirmation of a form, the account menu. Live events are in live.js.
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
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of document.querySelectorAll("details.menu[open]")) menu.open = false;
  });
});
