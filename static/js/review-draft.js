// Drafts: what is marked and typed goes to the server while somebody works, so that a crash or another machine
// loses nothing. "draft saved" stands there only after the server said so; while it can't be reached, the tab
// keeps the fields itself.
"use strict";

window.review = window.review || {};

(() => {
  const WAIT_MS = 400;
  const RETRY_MS = 5000;
  const FIELD = /^(mark|principle-\d+|rewrite|rewrite_of|note|spans)$/;

  const at = { timer: 0, changed: false };
  const form = () => document.getElementById("judgement");
  const name = (of) => `draft:${of.dataset.sample}`;

  function tell(of, words) {
    for (const place of of.querySelectorAll("[data-draft]")) place.textContent = words;
  }

  function read(of) {
    return [...new FormData(of)].filter(([field]) => FIELD.test(field));
  }

  function pack(of) {
    const body = new FormData();
    for (const [field, value] of read(of)) body.append(field, value);
    for (const field of ["token", "csrfmiddlewaretoken"]) body.append(field, of.elements[field].value);
    return body;
  }

  function schedule(after = WAIT_MS) {
    clearTimeout(at.timer);
    at.timer = setTimeout(send, after);
  }

  async function send() {
    const of = form();
    at.timer = 0;
    if (!of?.dataset.draftUrl) return;
    at.changed = false;
    let answer;
    try {
      answer = await fetch(of.dataset.draftUrl, { method: "POST", body: pack(of) });
      if (answer.redirected || answer.status >= 500) throw new Error("not taken");
    } catch {
      sessionStorage.setItem(name(of), JSON.stringify(read(of)));
      tell(of, "not saved, offline: kept in this tab");
      if (form() === of) schedule(RETRY_MS);
      return;
    }
    if (answer.ok) {
      if (!at.changed) sessionStorage.removeItem(name(of));
      tell(of, `draft saved ${(await answer.json()).saved}`);
    } else if (form() === of) {
      sessionStorage.setItem(name(of), JSON.stringify(read(of)));
      tell(of, "draft not saved: this sample is not yours any more");
    }
  }

  // What the server did not get before a reload. It is newer than what the server sent.
  function restore(of) {
    const kept = sessionStorage.getItem(name(of));
    if (!kept) return;
    const fields = JSON.parse(kept);
    for (const element of of.elements) {
      if (!FIELD.test(element.name)) continue;
      const values = fields.filter(([field]) => field === element.name).map(([, value]) => value);
      if (element.type === "checkbox") element.checked = values.includes(element.value);
      else element.value = values[0] ?? "";
    }
    const rewrite = document.getElementById("rewrite");
    if (rewrite && of.elements.rewrite.value) rewrite.open = true;
    of.dispatchEvent(new Event("restored", { bubbles: true })); // marked passages are painted from the fields
    tell(of, "draft restored from this tab");
    schedule();
  }

  window.review.drafts = {
    show(of) {
      at.changed = false;
      if (of.dataset.draftUrl) restore(of);
    },
    // A judgement is on its way: no draft may follow it.
    stop() {
      clearTimeout(at.timer);
      at.timer = 0;
    },
    // It did not get through.
    resume: () => schedule(),
    forget(of) {
      sessionStorage.removeItem(name(of));
    },
    isTouched: () => at.changed || at.timer !== 0,
  };

  function change(event) {
    if (!FIELD.test(event.target.name ?? "") || event.target.form !== form() || !form().dataset.draftUrl) return;
    at.changed = true;
    schedule();
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.addEventListener("input", change);
    document.addEventListener("change", change);
    window.addEventListener("online", () => form() && sessionStorage.getItem(name(form())) && schedule(0));
    window.addEventListener("pagehide", () => {
      if (!at.timer || !form()?.dataset.draftUrl) return;
      sessionStorage.setItem(name(form()), JSON.stringify(read(form())));
      navigator.sendBeacon(form().dataset.draftUrl, pack(form()));
    });
  });
})();
