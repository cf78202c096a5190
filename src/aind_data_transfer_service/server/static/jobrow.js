// How a job is shown, in a row of the list and at the head of its own page.

import { ROOT, part, say, showTime } from "./common.js";
import { duration, progressWords, share } from "./format.js";

const ACTIVE = new Set(["SUBMITTED", "PENDING", "RUNNING"]);

/** Tell whether nothing more will happen to a job. */
export const isEnded = (state) => !ACTIVE.has(state);

/** Show a job's state. */
export function showState(element, job) {
  const badge = part(element, "state");
  badge.dataset.state = job.state;
  say(badge, job.state);
  element.dataset.state = job.state;
}

/** Show how far a job is. */
export function showProgress(element, job) {
  const bar = part(element, "bar");
  const done = share(job);
  bar.dataset.state = job.state;
  bar.setAttribute("aria-label", `Progress of ${job.name}`);
  if (done === null) bar.removeAttribute("value");
  else bar.value = done;
  bar.hidden = job.state === "COMPLETED" || (done === null && job.state !== "RUNNING");
  say(part(element, "progress"), progressWords(job) || waitingWords(job));
}

/** Say what a job without figures is at. */
function waitingWords(job) {
  if (job.state === "RUNNING") return job.step ? `Step: ${job.step}` : "";
  return isEnded(job.state) ? "" : "Waiting for its turn";
}

/** Show a job in a row of the list. */
export function fillRow(row, job) {
  row.dataset.job = job.id;
  const link = part(row, "name");
  link.href = `${ROOT}/jobs/${job.id}`;
  say(link, job.name);
  say(part(row, "meta"), [job.project_name, job.modalities.replaceAll(",", ", ")].filter(Boolean).join(" · "));
  const reason = part(row, "reason");
  say(reason, job.reason ?? "");
  reason.title = job.reason ?? "";
  reason.hidden = !job.reason;
  showState(row, job);
  showProgress(row, job);
  say(part(row, "submitter"), job.submitter ?? "");
  showTime(part(row, "submitted_at"), job.submitted_at);
  const took = part(row, "took");
  took.dataset.from = job.started_at ?? "";
  took.dataset.to = job.ended_at ?? "";
  showTook(took);
}

/** Show a job that somebody else started. */
export function fillOther(row, job) {
  row.dataset.number = job.number;
  say(part(row, "name"), job.name);
  say(part(row, "number"), String(job.number));
  const reason = part(row, "reason");
  say(reason, job.reason);
  reason.hidden = !job.reason;
  showState(row, job);
  say(part(row, "node"), job.node);
  say(part(row, "user"), job.user);
  showTime(part(row, "submitted_at"), job.submitted_at);
  const took = part(row, "took");
  took.dataset.from = job.started_at ?? "";
  took.dataset.to = job.ended_at ?? "";
  showTook(took);
}

/** Write how long a job has been running, or ran. */
export function showTook(element) {
  const { from, to } = element.dataset;
  say(element, from ? duration(Math.max(0, (to ? new Date(to) : new Date()) - new Date(from)) / 1000) : "–");
}
