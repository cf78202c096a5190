// The page of one job: its parts are swapped in by htmx, as the templates say.

import { follow } from "./live.js";
import "./messages.js";
import "./times.js";

const LOG_MILLISECONDS = 2000;
const LOG_CHARACTERS = 1_000_000;
const log = document.getElementById("log");
const box = document.getElementById("follow");

/** Show the end of the log, if the reader follows it. */
function showEnd() {
  if (box.checked) log.scrollTop = log.scrollHeight;
}

// A log is cut at its beginning where it grows too long for a browser.
new MutationObserver(() => {
  let extra = log.textContent.length - LOG_CHARACTERS;
  while (extra > 0) {
    const text = log.firstChild;
    extra -= text.length;
    if (extra >= 0) text.remove();
    else text.deleteData(0, text.length + extra);
  }
  showEnd();
}).observe(log, { childList: true });
box.addEventListener("change", showEnd);
document.getElementById("log-form").addEventListener("change", ({ target }) => {
  if (target.id === "shard") document.getElementById("auto").value = ""; // the reader has chosen
}, { capture: true });
setInterval(() => {
  if (!document.hidden) htmx.trigger("#log-note", "more");
}, LOG_MILLISECONDS);

// A timeline that was read to its end is shown to its end when it grows.
let near = false;
document.addEventListener("htmx:before:swap", () => {
  const { scrollHeight, scrollTop, clientHeight } = document.getElementById("timeline");
  near = scrollHeight - scrollTop - clientHeight < 40;
});
document.addEventListener("htmx:after:swap", () => {
  const list = document.getElementById("timeline");
  if (near && document.querySelector('#job[data-state="RUNNING"]')) list.scrollTop = list.scrollHeight;
});

// Dialogs
const limits = document.getElementById("limits");
document.addEventListener("click", ({ target }) => {
  const { opens, closes } = target.dataset;
  if (opens) document.getElementById(opens).showModal();
  if (closes !== undefined) target.closest("dialog").close();
});
new MutationObserver(() => {
  if (limits.childElementCount && !limits.open) limits.showModal();
}).observe(limits, { childList: true });

follow(() => htmx.trigger("#job", "refresh"));
