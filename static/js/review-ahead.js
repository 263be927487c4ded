// The next sample is there before it is needed: judging shows it at once and saves in the background.
//
// One save at a time, in order. Its answer brings the verdict on what was judged and one more sample ahead. A
// save that fails brings its sample back as it was left; the one shown meanwhile waits as it was left, too.
"use strict";

window.review = window.review || {};

(() => {
  const PATIENCE_MS = 20000;
  const OFFLINE = "That did not reach the server. Nothing is lost: try again in a moment.";
  const SIGNED_OUT = "You are signed out, so that was not saved. Sign in again in another tab, then reload this one; it is kept here.";

  // next: the node #sample to show next; saving: a save is under way; waiting: what to do after it.
  const at = { next: null, saving: false, waiting: null, turn: 0 };
  const sample = () => document.getElementById("sample");
  const token = (node) => node?.querySelector("[name=token]")?.value ?? "";

  async function fetchAhead() {
    const url = document.getElementById("workbench").dataset.ahead;
    const turn = ++at.turn;
    at.next = null;
    if (!url) return;
    try {
      const answer = await fetch(url);
      if (answer.status !== 200 || answer.redirected) return;
      const found = parse(await answer.text()).getElementById("sample");
      if (turn === at.turn && !at.saving) at.next = document.adoptNode(found);
    } catch {
      // Offline: judging then asks for the next sample in the usual way.
    }
  }

  const parse = (text) => new DOMParser().parseFromString(text, "text/html");

  // The progress stays while samples come and go: one fetched ahead has none of its own.
  function put(node) {
    const old = sample();
    const progress = document.getElementById("review-progress");
    node.querySelector("#review-progress").replaceWith(progress);
    old.querySelector(".row").append(Object.assign(document.createElement("span"), { id: "review-progress" }));
    old.replaceWith(node);
    window.htmx.process(node);
    window.review.showNext();
    return old;
  }

  function putStrip(node) {
    document.getElementById("review-strip").replaceWith(node);
    window.htmx.process(node);
  }

  function makeStrip(words) {
    const strip = document.createElement("div");
    const notice = document.createElement("p");
    strip.id = "review-strip";
    strip.className = "stack";
    notice.className = "notice saving";
    notice.textContent = words;
    strip.append(notice);
    return strip;
  }

  async function save(form, button) {
    const body = new FormData(form);
    if (button?.name) body.append(button.name, button.value);
    body.append("shown", token(at.next));
    const url = button?.getAttribute("formaction") || form.getAttribute("action"); // form.action is a button
    const strip = document.getElementById("review-strip");
    window.review.drafts.stop();
    at.saving = true;
    const judged = put(at.next);
    at.next = null;
    putStrip(makeStrip("Saving…"));
    let words = OFFLINE;
    try {
      const answer = await fetch(url, { method: "POST", body, signal: AbortSignal.timeout(PATIENCE_MS) });
      const text = await answer.text();
      const page = parse(text);
      at.saving = false;
      if (answer.ok && page.getElementById("review-strip")) return finish(page, form);
      if (answer.redirected) words = SIGNED_OUT;
      else if ([409, 422].includes(answer.status)) words = JSON.parse(text).error;
    } catch {
      at.saving = false;
    }
    fail(judged, strip, words);
  }

  function finish(page, form) {
    window.review.drafts.forget(form);
    putStrip(document.adoptNode(page.getElementById("review-strip")));
    document.getElementById("review-progress").replaceWith(document.adoptNode(page.getElementById("review-progress")));
    document.querySelector("#judgement [data-lease]").textContent = page.getElementById("review-lease").textContent;
    const ahead = page.getElementById("ahead")?.content.getElementById("sample");
    at.next = ahead ? document.adoptNode(ahead) : null;
    window.review.announce(document.querySelector("#review-strip .said, #review-strip .notice")?.textContent ?? "");
    if (page.getElementById("review-lost")) lose();
    else goOn();
  }

  // What is shown had been fetched too long ago and is with somebody else.
  function lose() {
    const touched = at.waiting || window.review.drafts.isTouched() || sample().querySelector(".mark:checked");
    if (touched || !at.next) {
      window.review.lease.markLost();
      return goOn();
    }
    put(at.next);
    window.review.say("The sample shown meanwhile went to somebody else; here is another.");
    fetchAhead();
  }

  function fail(judged, strip, words) {
    const kept = at.waiting ? " The next one is kept as you left it, not judged yet." : "";
    at.waiting = null;
    at.next = put(judged);
    putStrip(strip);
    window.review.drafts.resume();
    window.review.say(words + kept);
  }

  function goOn() {
    const waiting = at.waiting;
    at.waiting = null;
    waiting?.();
  }

  window.review.ahead = {
    fetch: fetchAhead,
    token: () => token(at.next),
    drop() {
      at.turn += 1;
      at.next = null;
    },
    isSaving: () => at.saving,
  };

  function onSubmit(event) {
    const form = event.target;
    if (!form.closest("#workbench, .break")) return;
    const judging = form.id === "judgement";
    if (judging) form.elements.seconds.value = window.review.clock.read().toFixed(1);
    const button = event.submitter;
    if (at.saving) {
      event.preventDefault();
      event.stopImmediatePropagation();
      at.waiting = () => form.isConnected && form.requestSubmit(button);
      document.querySelector("#review-strip .saving")?.replaceChildren("Saving… what you pressed is next.");
    } else if (judging && at.next && form.elements.token) {
      event.preventDefault();
      event.stopImmediatePropagation();
      save(form, button);
    } else if (judging) {
      window.review.drafts.stop();
    }
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.addEventListener("submit", onSubmit, true); // before htmx
    window.addEventListener("beforeunload", (event) => {
      if (at.saving) event.preventDefault();
    });
  });
})();
