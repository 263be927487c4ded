// Shared by all pages: live events over a WebSocket, polling where sockets are blocked, the account menu.
//
// A part of a page that shows live data carries hx-trigger="live-round from:body" (or live-queue).
// The server's message says only which thing changed, so parts are fetched anew with one's own rights.
"use strict";

const POLL_MS = 5000; // how often parts are fetched anew while there is no socket
const FIRST_RETRY_MS = 1000;
const LAST_RETRY_MS = 30000;
const TOPICS = ["round", "queue"];

const live = { socket: null, retry: FIRST_RETRY_MS, timers: {} };

function announce(topic, id) {
  document.body.dispatchEvent(new CustomEvent(`live-${topic}`, { detail: { id: id || "" }, bubbles: true }));
}

// A busy round sends many messages a second; a page needs one fetch for them.
function announceSoon(topic, id) {
  if (live.timers[topic]) return;
  live.timers[topic] = setTimeout(() => {
    live.timers[topic] = null;
    announce(topic, id);
  }, 400);
}

function showConnection() {
  const open = live.socket && live.socket.readyState === WebSocket.OPEN;
  for (const dot of document.querySelectorAll("[data-connection]")) {
    dot.classList.toggle("on", Boolean(open));
    dot.classList.toggle("off", !open);
    const words = open ? "Live" : "Not live: the page asks every 5 seconds";
    dot.title = words;
    dot.setAttribute("aria-label", words);
  }
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(`${scheme}//${location.host}${document.body.dataset.live}`);
  live.socket = socket;
  socket.addEventListener("open", () => {
    if (live.retry > FIRST_RETRY_MS) TOPICS.forEach((topic) => announceSoon(topic)); // what was missed meanwhile
    live.retry = FIRST_RETRY_MS;
    showConnection();
  });
  socket.addEventListener("message", (message) => {
    const { topic, id } = JSON.parse(message.data);
    if (TOPICS.includes(topic)) announceSoon(topic, id);
  });
  socket.addEventListener("close", () => {
    showConnection();
    live.retry = Math.min(live.retry * 2, LAST_RETRY_MS);
    setTimeout(connect, live.retry);
  });
}

document.addEventListener("DOMContentLoaded", () => {
  if (document.body.dataset.live) {
    connect();
    setInterval(() => {
      const open = live.socket && live.socket.readyState === WebSocket.OPEN;
      if (!open && !document.hidden) TOPICS.forEach((topic) => announce(topic));
    }, POLL_MS);
    document.body.addEventListener("htmx:afterSettle", showConnection);
  }
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
