// The leases of the workbench: a heartbeat for the sample shown and for the one fetched ahead. What was only
// fetched ahead goes back when the page is left.
"use strict";

window.review = window.review || {};

(() => {
  const HEARTBEAT_MS = 30000; // a third of the shorter lease

  const form = () => document.getElementById("judgement");

  async function beat() {
    const of = form();
    if (!of?.dataset.heartbeat || document.hidden) return;
    const body = new FormData();
    for (const name of ["token", "csrfmiddlewaretoken"]) body.append(name, of.elements[name].value);
    const ahead = window.review.ahead.token();
    if (ahead) body.append("ahead", ahead);
    let answer;
    try {
      answer = await fetch(of.dataset.heartbeat, { method: "POST", body });
      if (answer.redirected || ![200, 409].includes(answer.status)) return;
    } catch {
      return; // offline for a moment: the next beat tells
    }
    const said = await answer.json();
    if (ahead && !said.ahead && window.review.ahead.token() === ahead) window.review.ahead.drop();
    if (form() !== of) return;
    if (answer.ok) of.querySelector("[data-lease]").textContent = `yours until ${said.until}`;
    else markLost();
  }

  function markLost() {
    form().querySelector("[data-lease]").textContent = "no longer yours";
    delete form().dataset.heartbeat;
    window.review.say("Somebody else has this sample by now. You can still judge it: yours is kept as an extra judgement.");
  }

  window.review.lease = { markLost };

  document.addEventListener("DOMContentLoaded", () => {
    setInterval(beat, HEARTBEAT_MS);
    document.addEventListener("visibilitychange", beat);
    window.addEventListener("pagehide", () => {
      const of = form();
      const ahead = window.review.ahead.token();
      if (!ahead || !of?.dataset.release) return;
      const body = new FormData();
      body.append("csrfmiddlewaretoken", of.elements.csrfmiddlewaretoken.value);
      body.append("ahead", ahead);
      navigator.sendBeacon(of.dataset.release, body);
      window.review.ahead.drop();
    });
    window.addEventListener("pageshow", (event) => {
      if (event.persisted) window.review.ahead.fetch();
    });
  });
})();
