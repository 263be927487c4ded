// Live events: over a WebSocket, or by asking every 3 seconds where sockets are blocked.
//
// The server says only what changed ("round" or "queue"), so a part of a page that shows it is fetched
// anew with one's own rights. Such a part carries hx-trigger="live-round from:body", "live-queue from:body",
// or "live from:body" for either.
"use strict";

(() => {
  const POLL_MS = 3000;
  const GATHER_MS = 400; // a busy round sends many messages a second; a page needs one fetch for them
  const PING_MS = 25000; // shorter than the idle limit of common proxies
  const FIRST_RETRY_MS = 1000;
  const LAST_RETRY_MS = 30000;
  const NOT_SIGNED_IN = 4401; // the server's own close code
  const TOPICS = ["round", "queue"];
  const WORDS = {
    on: "Live",
    off: "Not live: this page asks every 3 seconds",
    out: "Signed out: reload the page to sign in again",
  };

  const timers = {};
  let socket = null;
  let state = "";
  let retry = FIRST_RETRY_MS;

  function announce(topic, id = "") {
    for (const name of [`live-${topic}`, "live"]) {
      document.body.dispatchEvent(new CustomEvent(name, { detail: { topic, id } }));
    }
  }

  function announceSoon(topic, id) {
    timers[topic] ??= setTimeout(() => {
      timers[topic] = undefined;
      announce(topic, id);
    }, GATHER_MS);
  }

  function show(next = state) {
    state = next;
    for (const dot of document.querySelectorAll("[data-connection]")) {
      dot.classList.toggle("on", state === "on");
      dot.classList.toggle("off", state !== "on" && state !== "");
      dot.title = WORDS[state] ?? "Connecting";
      dot.setAttribute("aria-label", dot.title);
    }
  }

  function connect() {
    const url = new URL(document.body.dataset.live, location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    socket = new WebSocket(url);
    socket.addEventListener("open", () => {
      if (state === "off") TOPICS.forEach((topic) => announceSoon(topic)); // what was missed meanwhile
      show("on");
    });
    socket.addEventListener("message", (message) => {
      retry = FIRST_RETRY_MS;
      const { topic, id } = JSON.parse(message.data);
      if (TOPICS.includes(topic)) announceSoon(topic, id);
    });
    socket.addEventListener("close", (event) => {
      show(event.code === NOT_SIGNED_IN ? "out" : "off");
      if (state === "out") return;
      // A server that was up a moment ago is most likely restarting; spread what comes back to it.
      setTimeout(connect, retry * (0.75 + Math.random() / 2));
      retry = Math.min(retry * 2, LAST_RETRY_MS);
    });
  }

  // A fragment asked for after the session ended comes back as the sign-in page: show that page whole.
  function leaveWhenSignedOut(event) {
    const { pathname } = new URL(event.detail.xhr.responseURL || location.href);
    if (!pathname.startsWith("/sign-in/") || location.pathname.startsWith("/sign-in/")) return;
    event.detail.shouldSwap = false;
    location.assign(`/sign-in/?next=${encodeURIComponent(location.pathname + location.search)}`);
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.body.addEventListener("htmx:beforeSwap", leaveWhenSignedOut);
    if (!document.body.dataset.live) return;
    document.body.addEventListener("htmx:afterSettle", () => show());
    connect();
    setInterval(() => {
      if (socket.readyState === WebSocket.OPEN) socket.send("{}");
    }, PING_MS);
    setInterval(() => {
      if (state === "off" && !document.hidden) TOPICS.forEach((topic) => announce(topic));
    }, POLL_MS);
  });
})();
