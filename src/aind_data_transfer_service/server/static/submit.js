// The submit page: a file is chosen or dropped. The service checks it and renders what was found.

import { tell } from "./messages.js";

const $ = (id) => document.getElementById(id);
const ROWS_AT_ONCE = 200;
const drop = $("drop");
const form = $("submit-form");
const checked = $("checked");
const message = $("message");
const nothing = checked.innerHTML;

/** Say why nothing can be submitted. */
function forbidSubmit(hint) {
  $("submit").disabled = true;
  $("submit-hint").textContent = hint;
}

/** Discard what was read before. */
function discard(hint) {
  checked.innerHTML = nothing;
  forbidSubmit(hint);
}

/** Refuse a file that cannot even be sent. */
function refuse(line) {
  htmx.trigger(drop, "htmx:abort");
  drop.removeAttribute("aria-busy");
  discard("Choose a file first.");
  tell(message, "error", drop.dataset.failure, "", [line]);
}

/** Say why a file cannot be sent. */
function refusal(file) {
  const most = Number(drop.dataset.maxBytes);
  if (!/\.(csv|xlsx)$/i.test(file.name)) return `"${file.name}" is neither a .csv nor an .xlsx file.`;
  const mebibytes = (count) => `${(count / 1048576).toLocaleString("en", { maximumFractionDigits: 1 })} MiB`;
  if (file.size > most) return `"${file.name}" has ${mebibytes(file.size)}; ${mebibytes(most)} is the most.`;
  return "";
}

const isSubmitting = () => form.hasAttribute("aria-busy");

// The check of a file
drop.addEventListener("htmx:config:request", (event) => {
  const [file] = $("file").files;
  const line = file && refusal(file);
  if (line) refuse(line);
  if (!file || line || isSubmitting()) event.preventDefault();
});
drop.addEventListener("htmx:before:request", () => {
  const [file] = $("file").files;
  discard("The file is being checked.");
  drop.setAttribute("aria-busy", "true");
  tell(message, "busy", `Checking ${file.name}…`, `${Math.ceil(file.size / 1000).toLocaleString("en-GB")} kB`);
});
drop.addEventListener("htmx:after:request", () => drop.removeAttribute("aria-busy"));
for (const name of ["htmx:error", "htmx:response:error"]) {
  drop.addEventListener(name, () => {
    drop.removeAttribute("aria-busy");
    forbidSubmit("The file has errors.");
  });
}

// E-mail
const mailUser = $("mail-user");
const mailTypes = [...document.querySelectorAll('[name="mail_type"]')];
const mailAll = mailTypes.find((box) => box.value === "ALL");

mailAll.addEventListener("change", () => {
  for (const box of mailTypes) {
    if (box === mailAll) continue;
    box.disabled = mailAll.checked;
    if (mailAll.checked) box.checked = false;
  }
});

/** Read the e-mail choices: null for none, settings, or an error. */
function mail() {
  const user = mailUser.value.trim();
  const types = mailTypes.filter((box) => box.checked).map((box) => box.value);
  if (!user && !types.length) return { settings: null };
  if (!user) return { error: "Enter the address that the messages are sent to." };
  if (!mailUser.checkValidity()) return { error: `"${user}" is not a valid e-mail address.` };
  if (!types.length) return { error: "Choose when a message is to be sent, or clear the address." };
  return { settings: { mail_user: user, mail_type: types } };
}

/** Show an error of the e-mail choices, or none. */
function showMailError(error = "") {
  $("mail-error").textContent = error;
  $("mail-error").hidden = !error;
  mailUser.setAttribute("aria-invalid", String(Boolean(error)));
  if (error) mailUser.focus();
}

// The submission of what was checked
const data = () => JSON.parse($("checked-jobs").textContent);

/** Send JSON instead of the fields of a form. */
function sendJson(request, body) {
  request.body = JSON.stringify(body);
  request.headers["Content-Type"] = "application/json";
}

form.addEventListener("htmx:config:request", (event) => {
  const { error } = mail();
  showMailError(error);
  if (error || !$("checked-jobs") || $("submit").disabled) event.preventDefault();
});
form.addEventListener("htmx:before:request", ({ detail: { ctx } }) => {
  const { jobs } = data();
  const { settings } = mail();
  const hpcJob = (text) => ({
    upload_job_settings: text, hpc_settings: JSON.stringify(settings), script: "",
  });
  if (settings) ctx.request.action = form.dataset.withMail;
  sendJson(ctx.request, { jobs: settings ? jobs.map(hpcJob) : jobs });
  form.setAttribute("aria-busy", "true");
  $("submit-hint").textContent = "The jobs are being submitted.";
  tell(message, "busy", `Submitting ${jobs.length.toLocaleString("en-GB")} ${jobs.length === 1 ? "job" : "jobs"}…`);
});
form.addEventListener("htmx:finally:request", () => form.removeAttribute("aria-busy"));
form.addEventListener("htmx:error", () => {
  $("submit-hint").textContent = "Look under Job Status before you try again.";
});
document.addEventListener("htmx:error", ({ target }) => {
  if (target === form) message.firstElementChild.append($("follow-template").content.cloneNode(true));
});
form.addEventListener("htmx:response:error", ({ detail: { ctx } }) => {
  if (!ctx.hx.reswap) $("submit-hint").textContent = "Nothing was submitted. You may try again.";
});
form.addEventListener("htmx:after:swap", ({ detail: { ctx } }) => {
  message.scrollIntoView({ block: "nearest" });
  if (ctx.response.status < 400) message.focus({ preventScroll: true });
});

// More rows of a long file
checked.addEventListener("htmx:before:request", ({ target, detail: { ctx } }) => {
  const { jobs, assets, rest } = data();
  const [shown, total] = [Number(target.dataset.shown), Number(target.dataset.total)];
  const start = shown - (total - rest.length);
  const entries = rest.slice(start, start + ROWS_AT_ONCE).map(([row, place]) => (
    { row, job: jobs[place], asset: assets[place] }
  ));
  sendJson(ctx.request, { entries, shown, total });
  ctx.afterRow = shown;
});
document.addEventListener("htmx:after:swap", ({ detail: { ctx } }) => {
  if (ctx.afterRow) $("rows").children[ctx.afterRow]?.scrollIntoView({ block: "nearest" });
});

// Choosing and dropping
// A second choice of the same file, corrected meanwhile, has to be noticed too.
$("file").addEventListener("click", (event) => {
  event.target.value = "";
});
let depth = 0;
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("dragenter", (event) => {
  if (!event.dataTransfer?.types.includes("Files")) return;
  depth += 1;
  drop.dataset.over = "true";
});
addEventListener("dragleave", () => {
  depth = Math.max(0, depth - 1);
  if (!depth) delete drop.dataset.over;
});
addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  delete drop.dataset.over;
  const { files } = event.dataTransfer ?? { files: [] };
  if (files.length > 1) refuse("Drop one file at a time.");
  if (files.length !== 1) return;
  $("file").files = files;
  $("file").dispatchEvent(new Event("change", { bubbles: true }));
});
