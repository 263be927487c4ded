// The list of samples: how many are chosen, all of a page, a range with Shift, and the link to this filter.
// The list is replaced as filters change, so everything is heard on the document.
"use strict";

(() => {
  const boxes = () => [...document.querySelectorAll('#samples-list input[name="sample"]')];
  let last = null; // the box that was changed last, the start of a range

  function count() {
    const all = boxes();
    const chosen = all.filter((box) => box.checked).length;
    const line = document.querySelector("[data-chosen]");
    const whole = document.querySelector("[data-all]");
    if (!line || !whole) return;
    line.textContent = chosen ? `${chosen} chosen` : "Tick samples to act on them";
    whole.checked = chosen > 0 && chosen === all.length;
    whole.indeterminate = chosen > 0 && chosen < all.length;
    for (const button of document.querySelectorAll("#samples-form button")) button.disabled = chosen === 0;
  }

  document.addEventListener("click", (event) => {
    const box = event.target.closest?.('#samples-list input[name="sample"]');
    if (box) {
      const all = boxes();
      if (event.shiftKey && last && all.includes(last)) {
        const [from, to] = [all.indexOf(last), all.indexOf(box)].sort((a, b) => a - b);
        for (const other of all.slice(from, to + 1)) other.checked = box.checked;
      }
      last = box;
      count();
    }
    const link = event.target.closest?.("[data-copy]");
    if (link && navigator.clipboard) {
      event.preventDefault();
      const words = link.querySelector("span");
      navigator.clipboard.writeText(link.href).then(
        () => { words.textContent = "Copied"; setTimeout(() => { words.textContent = "Copy link"; }, 2000); },
        () => location.assign(link.href),
      );
    }
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-all]")) {
      for (const box of boxes()) box.checked = event.target.checked;
      count();
    }
  });
  document.addEventListener("keydown", (event) => {
    // Enter in the reason means "exclude", not the first button of the form.
    if (event.key !== "Enter" || !event.target.matches('[name="reason"]')) return;
    event.preventDefault();
    const button = event.target.form?.querySelector('[formaction$="/exclude/"]');
    if (button && !button.disabled) button.form.requestSubmit(button);
  });
  document.addEventListener("DOMContentLoaded", () => {
    count();
    document.body.addEventListener("htmx:afterSettle", count);
  });
})();
