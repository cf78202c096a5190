// What follows an upload, on a job's page: how it stands, and the buttons to try it again.

import { part, post, say, tell } from "./common.js";

const STEPS = ["registration", "analysis"];
const AGAIN = new Set(["FAILED", "WAITING"]);
const $ = (id) => document.getElementById(id);

/** Show what follows the upload as it stands. */
export function showAfterwards(job) {
  $("afterwards").hidden = !STEPS.some((step) => job[step]);
  for (const step of STEPS) {
    const row = $(step);
    row.hidden = !job[step];
    const badge = part(row, step);
    badge.dataset.state = job[step];
    say(badge, job[step]);
    showText(part(row, `${step}_reason`), job[`${step}_reason`]);
    const button = row.querySelector("[data-retry]");
    button.hidden = job.state !== "COMPLETED" || !AGAIN.has(job[step]);
    button.disabled = false;
  }
  const row = $("analysis");
  showLink(part(row, "data_asset_link"), job.data_asset_link);
  showLink(part(row, "computation_link"), job.computation_link);
  const id = job.computation_id;
  showText(part(row, "computation_id"), id ? `computation ${id}` : "");
}

/** Show a text, or nothing at all. */
function showText(element, text) {
  element.hidden = !text;
  say(element, text);
}

/** Show a link, or nothing at all. */
function showLink(element, address) {
  element.hidden = !address;
  if (address) element.href = address;
  else element.removeAttribute("href");
}

/** Have the buttons of a job work. */
export function offerRetries(id, showJob) {
  for (const button of document.querySelectorAll("[data-retry]")) {
    button.addEventListener("click", async () => {
      button.disabled = true;
      try {
        const { job } = await post(`/api/jobs/${id}/${button.dataset.retry}`);
        showJob(job);
      } catch (error) {
        button.disabled = false;
        tell($("message"), "error", "That could not be tried again", { list: error.errors });
      }
    });
  }
}
