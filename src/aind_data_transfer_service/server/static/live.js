// Word of changes: by server-sent events, and by asking again every few seconds where those fail.

import { ROOT } from "./common.js";

const POLL_MILLISECONDS = 5000;

/**
 * Follow all jobs.
 *
 * `onJob(job)` is called for each change, `onOthers()` when what others started has changed,
 * `onCatchUp()` when something may have been missed, and `onState(state)` with "on", "poll" or
 * "off".
 */
export function follow({ onJob, onOthers = () => {}, onCatchUp, onState }) {
  let source = null;
  let poll = null;

  const startPolling = () => {
    onState("poll");
    poll ??= setInterval(() => {
      onCatchUp();
      if (source?.readyState === EventSource.CLOSED) open();
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
    source.addEventListener("others", onOthers);
    source.addEventListener("error", startPolling);
  };

  const close = () => {
    clearInterval(poll);
    poll = null;
    source?.close();
    source = null;
    onState("off");
  };

  // A page that nobody looks at holds no connection: browsers allow six to a service, in all tabs.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) close();
    else if (!source) open();
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", () => {
    if (!source && !document.hidden) open();
  });
  if (!document.hidden) open();
}
