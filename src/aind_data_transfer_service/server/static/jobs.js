// The list of jobs: rows and lists are swapped in by htmx, as the templates say.

import { follow } from "./live.js";
import "./messages.js";
import "./times.js";

// A list that was read before a row changed, and comes after it, leaves the row as it is.
htmx.registerExtension("newest-row", {
  htmx_before_morph_node: (row, { newNode }) => !(row.dataset?.updated > newNode.dataset?.updated),
});

const isList = (element) => element?.id === "list";

document.addEventListener("htmx:before:request", ({ detail: { ctx } }) => {
  // A refresh that had to wait asks for what the list shows by now.
  if (isList(ctx.sourceElement)) ctx.request.action = ctx.sourceElement.getAttribute("hx-get");
  else if (isList(ctx.target)) setBusy(true);
});
document.addEventListener("htmx:finally:request", () => setBusy(false));

/** Show whether another list is awaited. */
function setBusy(busy) {
  document.querySelector("#list .jobs").setAttribute("aria-busy", busy);
}

follow(() => htmx.trigger("#list", "refresh"));
