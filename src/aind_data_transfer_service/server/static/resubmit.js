// "Submit again" on the page of a job: at once, or on a cluster with another time limit and memory.

import { ask, post, ROOT, say, tell } from "./common.js";

const MEMORY = {
  memory_per_cpu: "Memory (MB per CPU)",
  memory_per_gpu: "Memory (MB per GPU)",
  memory_per_node: "Memory (MB per node; 0 is the whole node)",
};
const LABELS = { time_limit: "Time limit (minutes)", ...MEMORY };
const FAILED = "The job could not be submitted again";
const $ = (id) => document.getElementById(id);

/** Show a limit in its field; hide the field if users may not set it. */
function showLimit(field, limits, name) {
  field.closest(".field").hidden = !name || !(name in limits);
  field.value = limits[name] ?? "";
}

/** Show what the partition allows, if the new attempt needs more. */
function showNotes(notes) {
  const list = Object.entries(notes).map(([name, text]) => `${LABELS[name] ?? name}: ${text}`);
  if (list.length) tell($("limits-message"), "caution", "The cluster may allow no more", { list });
  else $("limits-message").replaceChildren();
}

/** Read what a field says; an empty one stands for the default. */
const limitIn = (field) => (field.value === "" ? null : Number(field.value));

/** Tell what differs from what the job asked for; without memory, no kind of it is asked for. */
function changed(asked, shown) {
  const changes = {};
  for (const [name, value] of Object.entries(shown)) {
    if (value !== (asked[name] ?? null)) changes[name] = value;
    if (value !== null || !(name in MEMORY)) continue;
    for (const kind of Object.keys(MEMORY)) if (kind in asked) changes[kind] = null;
  }
  return changes;
}

/** Let the job be submitted again. */
export function offerResubmit(id) {
  const button = $("resubmit");
  let asked, memory;

  /** Submit it, and open the page of the new job. */
  async function resubmit(changes, region) {
    button.disabled = true;
    try {
      const { job } = await post(`/api/jobs/${id}/resubmit`, changes);
      location.href = `${ROOT}/jobs/${job.id}`;
    } catch (error) {
      button.disabled = false;
      tell(region, "error", FAILED, { list: error.errors });
    }
  }

  button.addEventListener("click", async () => {
    let limits, notes;
    try {
      ({
        suggested_limits: limits,
        asked_limits: asked,
        limit_notes: notes,
      } = await ask(`/api/jobs/${id}`));
    } catch (error) {
      return tell($("message"), "error", FAILED, { list: error.errors });
    }
    if (!Object.keys(limits).length) return resubmit({}, $("message"));
    memory = Object.keys(MEMORY).find((name) => name in limits);
    showLimit($("time-limit"), limits, "time_limit");
    showLimit($("memory"), limits, memory);
    if (memory) say(document.querySelector('label[for="memory"]'), MEMORY[memory]);
    showNotes(notes);
    $("limits").showModal();
  });
  $("limits-close").addEventListener("click", () => $("limits").close());
  $("limits").querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    const shown = {};
    if (!$("time-limit").closest(".field").hidden) shown.time_limit = limitIn($("time-limit"));
    if (memory) shown[memory] = limitIn($("memory"));
    resubmit(changed(asked, shown), $("limits-message"));
  });
}
