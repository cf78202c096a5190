// The page of one job: its state and timeline as they change, its log, and what can be done to it.

import { offerRetries, showAfterwards } from "./afterwards.js";
import { ask, part, post, say, showTime, showTimes, tell } from "./common.js";
import { clock, duration, place, progressHeading, size, timeline } from "./format.js";
import { isEnded, showProgress, showState } from "./jobrow.js";
import { follow } from "./live.js";
import { offerResubmit } from "./resubmit.js";

const $ = (id) => document.getElementById(id);
const page = $("job");
const id = page.dataset.job;
const blank = $("event-row").content.querySelector("li");
const blankDocument = $("document-row").content.querySelector("tr");
const BAD = new Set(["FAILED", "TIMEOUT", "UNKNOWN"]);
const LOG_MILLISECONDS = 2000;
const LOG_CHARACTERS = 1_000_000;

let current = null;

/** Show the job as it stands. */
function showJob(job) {
  const justEnded = current && !isEnded(current.state) && isEnded(job.state);
  if (justEnded) $("message").replaceChildren(); // what was said of stopping it
  current = job;
  showState(page, job);
  showProgress(page, job);
  const ended = isEnded(job.state);
  say($("progress-heading"), progressHeading(job.state));
  $("progress-panel").hidden = !job.files_total && job.state !== "RUNNING";
  const reason = part(page, "reason");
  reason.hidden = !job.reason;
  reason.dataset.tone = BAD.has(job.state) ? "error" : "plain";
  say(reason, job.reason ?? "");
  const step = part(page, "step-sentence");
  step.hidden = !job.step || ended;
  say(step, `Step: ${job.step ?? ""}`);
  showTime(part(page, "started_at"), job.started_at);
  showTime(part(page, "ended_at"), job.ended_at);
  say(part(page, "exit_code"), job.exit_code === null ? "–" : String(job.exit_code));
  say(part(page, "executor"), place(job));
  $("node").hidden = !job.node;
  say(part(page, "node"), job.node);
  $("cancel").hidden = ended;
  $("cancel").disabled = Boolean(job.cancel_requested);
  say($("cancel"), job.cancel_requested ? "Stopping…" : "Cancel job");
  $("resubmit").hidden = !ended;
  showAfterwards(job);
  showTook();
}

/** Say how long the job has run. */
function showTook() {
  if (!current?.started_at) return say(part(page, "took-sentence"), "");
  const ended = current.ended_at;
  const seconds = ((ended ? new Date(ended) : new Date()) - new Date(current.started_at)) / 1000;
  const words = duration(Math.max(0, seconds));
  say(part(page, "took-sentence"), ended ? `took ${words}` : `for ${words}`);
}

/** Show the timeline, adding what is new. */
function showEvents(events) {
  const list = $("timeline");
  const near = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.replaceChildren(...timeline(events).map(eventRow));
  $("timeline-empty").hidden = events.length > 0;
  if (near && current?.state === "RUNNING") list.scrollTop = list.scrollHeight;
}

/** Make one entry of the timeline. */
function eventRow(event) {
  const row = blank.cloneNode(true);
  row.dataset.kind = event.kind;
  say(part(row, "step"), event.step);
  say(part(row, "message"), event.message);
  say(part(row, "seconds"), event.seconds >= 1 ? duration(event.seconds) : "");
  showTime(part(row, "time"), event.time, clock);
  return row;
}

/** Show the documents, as the job told of them last. */
function showDocuments(events) {
  const told = events.map((event) => event.figures.documents ?? []).filter((rows) => rows.length);
  const rows = told.length ? told[told.length - 1] : [];
  $("documents-panel").hidden = !rows.length;
  $("documents").replaceChildren(...rows.map(documentRow));
}

/** Make the row of a document. */
function documentRow(told) {
  const { name, status, source, seconds, complete, problems, notes } = told;
  const row = blankDocument.cloneNode(true);
  row.dataset.document = name;
  say(part(row, "name"), name);
  say(part(row, "status"), status);
  part(row, "status").dataset.status = status;
  say(part(row, "source"), source);
  part(row, "partial").hidden = complete;
  const remarks = [...problems, ...notes.filter((note) => !problems.includes(note))];
  part(row, "remarks").hidden = !remarks.length;
  part(row, "remarks").replaceChildren(...remarks.map((text) => {
    const item = document.createElement("li");
    item.textContent = text;
    return item;
  }));
  say(part(row, "seconds"), seconds === null ? "" : briefly(seconds));
  return row;
}

/** Write a few seconds. */
function briefly(seconds) {
  return seconds < 0.05 ? "< 0.1 s" : `${seconds.toFixed(1)} s`;
}

let asked = 0;
/** Ask for the job again and show it. */
async function refresh() {
  const mine = (asked += 1);
  try {
    const { job, events } = await ask(`/api/jobs/${id}`);
    if (mine !== asked) return;
    showJob(job);
    showEvents(events);
    showDocuments(events);
  } catch (error) {
    if (error.status) tell($("message"), "error", error.message, { list: error.errors });
  }
}

let later = null;
/** Ask for the timeline soon. */
function refreshSoon() {
  later ??= setTimeout(() => {
    later = null;
    refresh();
  }, 500);
}

// The log, read on from where the last answer ended.
const log = $("log");
const reading = {
  stream: "stderr", shard: 0, begin: 0, offset: null, busy: false, settled: false, chosen: false,
};

/** Read what the log has more. */
async function readLog() {
  if (reading.busy) return;
  reading.busy = true;
  const { stream, shard, offset } = reading;
  const isSame = () => stream === reading.stream && shard === reading.shard;
  const last = Boolean(current && isEnded(current.state)); // nothing is written after this
  try {
    const from = offset === null ? "" : `&offset=${offset}`;
    const chunk = await ask(`/api/jobs/${id}/log?stream=${stream}&shard=${shard}${from}`);
    if (isSame()) {
      showLog(chunk, offset === null);
      reading.settled = last && chunk.next_offset >= chunk.size;
      offerShards(chunk, last);
    }
  } catch (error) {
    say($("log-note"), error.errors?.[0] ?? error.message);
  } finally {
    reading.busy = false;
    if (!isSame()) readLog();
  }
}

/** Show a piece of the log. */
function showLog(chunk, first) {
  reading.offset = chunk.next_offset;
  if (first) {
    reading.begin = chunk.offset;
    log.replaceChildren();
  }
  if (chunk.text) {
    log.append(chunk.text);
    log.normalize();
    const text = log.firstChild;
    if (text.length > LOG_CHARACTERS) text.deleteData(0, text.length - LOG_CHARACTERS);
    if ($("follow").checked) log.scrollTop = log.scrollHeight;
  }
  say($("log-note"), chunk.problem || logNote(chunk.size));
  if (chunk.next_offset < chunk.size && chunk.text) setTimeout(readLog, 0);
}

/** Say how much of the log is shown. */
function logNote(all) {
  if (!all) return "Nothing has been written yet.";
  const shown = all - reading.begin;
  return reading.begin ? `The last ${size(shown)} of ${size(all)}.` : `${size(all)} in all.`;
}

/** Offer the logs of the shards of a job; until the last job runs, that of the first is shown. */
function offerShards(chunk, ended) {
  const choice = $("shard");
  for (let number = choice.length; number <= chunk.shards; number += 1) {
    choice.add(new Option(`shard ${number}`, number));
  }
  $("shards").hidden = choice.length < 2;
  if (reading.chosen || choice.length < 2) return;
  const wanted = ended ? 0 : reading.shard || (chunk.size ? 0 : 1);
  if (wanted === reading.shard) return;
  choice.value = wanted;
  readAnother({ shard: wanted });
}

/** Read another log, from its end. */
function readAnother(changes) {
  Object.assign(reading, changes, { offset: null, settled: false });
  log.replaceChildren();
  say($("log-note"), "Reading…");
  readLog();
}

for (const choice of document.querySelectorAll('[name="stream"]')) {
  choice.addEventListener("change", () => readAnother({ stream: choice.value }));
}
$("shard").addEventListener("change", (event) => {
  readAnother({ shard: Number(event.target.value), chosen: true });
});
$("follow").addEventListener("change", (event) => {
  if (event.target.checked) log.scrollTop = log.scrollHeight;
});

$("cancel").addEventListener("click", () => $("confirm").showModal());
$("confirm").addEventListener("close", async () => {
  if ($("confirm").returnValue !== "yes") return;
  $("cancel").disabled = true;
  try {
    const { job } = await post(`/api/jobs/${id}/cancel`);
    tell($("message"), "busy", "The job was told to stop");
    showJob(job);
  } catch (error) {
    $("cancel").disabled = false;
    tell($("message"), "error", "The job is not stopped yet", { list: error.errors });
  }
});
offerResubmit(id);

offerRetries(id, showJob);

follow({
  onJob(job) {
    if (job.id !== id) return;
    showJob(job);
    refreshSoon();
  },
  onCatchUp: refresh,
  onState() {},
});
setInterval(() => {
  if (document.hidden) return;
  if (current && !isEnded(current.state)) showTook();
  if (!reading.settled) readLog();
}, LOG_MILLISECONDS);
showTimes();
readLog();
