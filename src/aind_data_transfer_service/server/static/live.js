// Word of changes: by server-sent events, and by asking again every few seconds where those fail.

import { ROOT } from "./common.js";

const POLL_MILLISECONDS = 5000;

/**
 * Follow all jobs.
 *
 * `onJob(job)` is called for each change, `onCatchUp()` when something may have been missed, and
 * `onState(state)` with "on", "poll" or "off".
 */
export function follow({ onJob, onCatchUp, onState }) {
  let source = null;
  let poll = null;

  const startPolling = () => {
    onState("poll");
    poll ??= setInterval(() => {
      onCatchUp();
      if (source.readyState === EventSource.CLOSED) open();
    }, POLL_MILLISECONDS);
  };

  const open = () => {
    source?.close();
    source = new EventSource(`${ROOT}/api/jobs/stream`);
    source.addEventListener("ready", () => {
      clearInterval(poll);
      poll = null;
      onState("on");
      onCatchUp();
    });
    source.addEventListener("job", (event) => onJob(JSON.parse(event.data)));
    source.addEventListener("error", startPolling);
  };

  // A page that nobody looks at, or that lies in the browser's cache, holds no connection open.
  addEventListener("pagehide", () => {
    clearInterval(poll);
    poll = null;
    source.close();
  });
  addEventListener("pageshow", (event) => {
    if (event.persisted) open();
  });
  open();
}
