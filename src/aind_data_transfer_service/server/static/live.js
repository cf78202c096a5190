// The state of a page's event stream. While it is away, the page is read again every few seconds.

import "./htmx.js";

const POLL_MILLISECONDS = 5000;
const TEXTS = { on: "Live", poll: "Updating every 5 s", off: "Not live" };
const stream = document.getElementById("stream");
let state = "off";

/** Show whether the page is live, if it has a place for that. */
function show() {
  const live = document.getElementById("live");
  if (!live || live.dataset.live === state) return;
  live.dataset.live = state;
  document.getElementById("live-words").textContent = TEXTS[state];
}

/** Note how the stream is. */
function become(next) {
  state = document.hidden ? "off" : next;
  show();
}

/** Follow the stream; `refresh` is called if something may have been missed. */
export function follow(refresh) {
  let isConnecting = false; // or connected: the extension itself connects again after that
  // A hidden page has no connection: browsers allow six to a service, in all tabs together.
  const connect = () => {
    if (document.hidden || isConnecting) return;
    isConnecting = true;
    htmx.trigger(stream, "connect");
  };
  const fail = () => {
    isConnecting = false;
    become("poll");
  };
  stream.addEventListener("ready", () => {
    become("on");
    refresh();
  });
  for (const name of ["htmx:error", "htmx:response:error", "htmx:sse:close"]) stream.addEventListener(name, fail);
  stream.addEventListener("htmx:sse:error", () => become("poll"));
  stream.addEventListener("htmx:sse:before:connection", (event) => {
    if (event.detail.connection.attempt) become("poll");
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) become("off");
    else connect();
  });
  document.addEventListener("htmx:after:swap", show); // a swap may have replaced the place
  setInterval(() => {
    if (document.hidden || state === "on") return;
    refresh();
    connect();
  }, POLL_MILLISECONDS);
  document.addEventListener("htmx:after:process", connect);
}
