// The submit page: a file is chosen or dropped, checked by the service, shown, and submitted.

import { ask, make, post, Refusal, ROOT, say, tell } from "./common.js";
import { more, plural, size } from "./format.js";

const $ = (id) => document.getElementById(id);
const ROWS_AT_ONCE = 200;

const drop = $("drop");
const message = $("message");
const button = $("submit");

let checking = null;
let valid = null; // the jobs that may be submitted, as the service gave them
let sending = false;

/** Allow Submit only while there is something to submit, and say why where there is not. */
function allowSubmit(hint) {
  button.disabled = sending || !valid;
  say($("submit-hint"), hint);
}

/** Forget what was read before. */
function forget() {
  checking?.abort();
  valid = null;
  clear();
}

/** Show no rows. */
function clear() {
  for (const id of ["file-problems", "warnings", "rows"]) $(id).replaceChildren();
  $("preview-scroll").hidden = true;
  $("more").hidden = true;
  $("preview-empty").hidden = false;
}

/** Have a file checked, and show what was found. */
async function check(file) {
  if (sending) return;
  forget();
  const refused = refusal(file);
  if (refused) {
    allowSubmit("Choose a file first.");
    tell(message, "error", "Error validating jobs from file", { list: [refused] });
    return;
  }
  const mine = (checking = new AbortController());
  allowSubmit("The file is being checked.");
  drop.setAttribute("aria-busy", "true");
  tell(message, "busy", `Checking ${file.name}…`, { detail: size(file.size) });
  const body = new FormData();
  body.append("file", file);
  try {
    const options = { method: "POST", body, signal: mine.signal };
    found(file, await ask("/api/validate_csv", options));
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof Refusal)) throw error;
    notFound(file, error);
  } finally {
    if (checking === mine) drop.removeAttribute("aria-busy");
  }
}

/** Say why a file cannot even be sent. */
function refusal(file) {
  const most = Number(drop.dataset.maxBytes);
  if (!/\.(csv|xlsx)$/i.test(file.name)) return `"${file.name}" is neither a .csv nor an .xlsx file.`;
  const mebibytes = (count) => `${(count / 1048576).toLocaleString("en", { maximumFractionDigits: 1 })} MiB`;
  if (file.size > most) return `"${file.name}" has ${mebibytes(file.size)}; ${mebibytes(most)} is the most.`;
  return "";
}

/** Show a file without errors. */
function found(file, data) {
  valid = data.jobs;
  tell(message, "good", "Successfully validated jobs from file", {
    detail: `${plural(data.jobs.length, "job", "jobs")} in ${file.name}.`,
  });
  preview(data);
  allowSubmit(`${plural(data.jobs.length, "job is", "jobs are")} ready to be submitted.`);
}

/** Show a file with errors. */
function notFound(file, error) {
  const problems = error.data.problems ?? [];
  const bad = new Set(problems.filter((one) => one.row !== null).map((one) => one.row)).size;
  const general = problems.length ? [] : error.errors;
  let detail = "";
  if (problems.length) {
    const where = bad ? ` in ${plural(bad, "row", "rows")}` : "";
    const count = error.data.error_count ?? problems.length;
    detail = `${plural(count, "error", "errors")}${where} of ${file.name}. Correct the file, then choose it again.`;
  }
  tell(message, "error", "Error validating jobs from file", { detail, list: general });
  if (error.data.jobs) preview(error.data);
  allowSubmit("The file has errors.");
}

/** Show the rows of a file: the good ones as jobs, the others with their errors. */
function preview({ jobs, rows = [], assets, problems = [], warnings = [] }) {
  const entries = jobs.map((text, place) => (
    { row: rows[place] ?? place + 1, job: JSON.parse(text), asset: assets[place] }
  ));
  const good = new Map(entries.map((entry) => [entry.row, entry]));
  const bad = new Map();
  const general = [];
  for (const problem of problems) {
    if (problem.row === null) general.push(problem.text);
    else if (good.has(problem.row)) (good.get(problem.row).problems ??= []).push(problem);
    else if (bad.has(problem.row)) bad.get(problem.row).problems.push(problem);
    else bad.set(problem.row, { row: problem.row, problems: [problem] });
  }
  const all = [...entries, ...bad.values()];
  // Rows with errors come first: in a long file they are what one looks for.
  all.sort((a, b) => Boolean(b.problems) - Boolean(a.problems) || a.row - b.row);
  $("file-problems").replaceChildren(...notice("error", "The file", general));
  $("warnings").replaceChildren(...notice("caution", "Worth a look", warnings));
  $("rows").replaceChildren();
  showRows(all);
  $("preview-scroll").hidden = all.length === 0;
  $("preview-empty").hidden = all.length + general.length + warnings.length > 0;
}

/** Show some more rows, and a button for the rest. */
function showRows(all) {
  const shown = $("rows").childElementCount;
  const next = all.slice(shown, shown + ROWS_AT_ONCE).map(entryRow);
  $("rows").append(...next);
  const count = shown + next.length;
  $("more").hidden = count === all.length;
  say($("more-words"), `${count} of ${all.length} rows are shown.`);
  $("show-more").onclick = () => {
    showRows(all);
    $("rows").children[count]?.scrollIntoView({ block: "nearest" });
  };
}

/** Make the row of one job or of one row with errors. */
function entryRow({ row, job, asset, problems }) {
  const cells = job ? jobCells(job, asset) : [make("td", { colspan: 5 }, errorList(problems))];
  const head = make("td", { class: "figure" }, String(row));
  const line = make("tr", { "data-bad": Boolean(problems), "data-row": row }, head, ...cells);
  if (!job || !problems) return line;
  cells[3].prepend(errorList(problems));
  return line;
}

/** Name each error's column beside it. */
function errorList(problems) {
  const item = ({ column, text }) =>
    make("li", {}, column ? make("code", {}, column) : null, text);
  return make("ul", { class: "cell-errors" }, ...problems.map(item));
}

/** Make the cells of one job. */
function jobCells(job, asset) {
  const time = (job.acq_datetime ?? "").replace("T", " ");
  const platform = short(job.platform);
  const where = (job.s3_bucket ? `${job.s3_bucket}/` : "") + asset;
  const line = (label, value, kind) =>
    make("div", { class: kind }, make("span", {}, label), make("code", {}, value));
  const pieces = job.modalities.map((one) => line(short(one.modality), one.source));
  if (job.metadata_dir) pieces.push(line("metadata", job.metadata_dir, "quiet"));
  pieces.push(line("becomes", where, "quiet"));
  return [
    make("td", { "data-label": "Subject" }, job.subject_id),
    make("td", { "data-label": "Platform" }, platform),
    make("td", { "data-label": "Acquired", class: "nowrap" }, time),
    make("td", { class: "pieces" }, ...pieces),
    make("td", { "data-label": "Project" },
      make("div", {}, job.project_name, make("span", { class: "meta" }, job.processor_full_name))),
  ];
}

/** Take the short name of a platform or modality. */
const short = (thing) => (typeof thing === "object" && thing ? thing.abbreviation : String(thing ?? ""));

/** Make a box with lines in it, or nothing where there are none. */
function notice(tone, title, lines) {
  if (!lines.length) return [];
  const list = (some) => make("ul", {}, ...some.map((line) => make("li", {}, line)));
  const box = make("div", { class: "notice", "data-tone": tone }, make("h2", {}, title), list(lines.slice(0, 5)));
  if (lines.length > 5) {
    const rest = lines.slice(5, 500);
    box.append(make("details", {}, make("summary", {}, more(lines.length - 5, "line", "lines")), list(rest)));
  }
  return [box];
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

/** Read the e-mail choices: null for none, settings, or an error in words. */
function mail() {
  const user = mailUser.value.trim();
  const types = mailTypes.filter((box) => box.checked).map((box) => box.value);
  if (!user && !types.length) return { settings: null };
  if (!user) return { error: "Write the address that the messages go to." };
  if (!mailUser.checkValidity()) return { error: `"${user}" is no e-mail address.` };
  if (!types.length) return { error: "Choose when a message is to be sent, or clear the address." };
  return { settings: { mail_user: user, mail_type: types } };
}

/** Show an error of the e-mail choices, or none. */
function showMailError(error = "") {
  say($("mail-error"), error);
  $("mail-error").hidden = !error;
  mailUser.setAttribute("aria-invalid", String(Boolean(error)));
  if (error) mailUser.focus();
}

/** Submit what was checked, once. */
async function submit() {
  if (sending || !valid) return;
  const { settings, error } = mail();
  showMailError(error);
  if (error) return;
  sending = true;
  const jobs = valid;
  allowSubmit("The jobs are being submitted.");
  tell(message, "busy", `Submitting ${plural(jobs.length, "job", "jobs")}…`);
  try {
    const data = settings
      ? await post("/api/submit_hpc_jobs", { jobs: jobs.map((text) => hpcJob(text, settings)) })
      : await post("/api/submit_basic_jobs", { jobs });
    sending = false;
    valid = null;
    submitted(data.responses, data.warnings ?? []);
  } catch (refused) {
    sending = false;
    notSubmitted(refused);
  }
  message.scrollIntoView({ block: "nearest" });
}

/** Say what went wrong, and whether the jobs are recorded all the same. */
function notSubmitted({ message: detail, errors: list, status, data }) {
  const entries = data?.responses ?? [];
  const extra = entries.length || !status ? [followThem()] : [];
  tell(message, "error", "Error submitting jobs", { detail, list: list ?? [], extra });
  if (entries.length) {
    valid = null;
    allowSubmit(`${plural(entries.length, "job is", "jobs are")} recorded: do not submit again.`);
  } else if (status) allowSubmit("Nothing was submitted. You may try again.");
  else allowSubmit("Look under Job Status before you try again.");
}

/** Say where the jobs are to be found. */
const followThem = () =>
  make("p", { class: "message-detail" }, "Follow them under ", make("a", { href: `${ROOT}/jobs` }, "Job Status"), ".");

/** Compose the request of one job with settings for the machine. */
const hpcJob = (text, settings) => ({
  upload_job_settings: text,
  hpc_settings: JSON.stringify(settings),
  script: "",
});

/** Show what was submitted. */
function submitted(responses, warnings) {
  const link = (entry) => make("a", { href: `${ROOT}/jobs/${entry.job_id}` }, entry.name ?? String(entry.job_id));
  const links = responses.slice(0, 20).map((entry) => make("li", {}, link(entry)));
  if (responses.length > 20) links.push(make("li", {}, more(responses.length - 20, "job", "jobs")));
  tell(message, "good", "Successfuly submitted jobs", {
    detail: `${plural(responses.length, "job was", "jobs were")} accepted.`,
    list: warnings,
    extra: [make("ul", {}, ...links), followThem()],
  });
  $("file").value = "";
  clear();
  allowSubmit("Choose another file to submit more.");
  message.focus({ preventScroll: true });
}

// Choosing and dropping
$("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) check(file);
});
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
  const files = [...(event.dataTransfer?.files ?? [])];
  if (files.length > 1) {
    forget();
    allowSubmit("Choose a file first.");
    tell(message, "error", "Error validating jobs from file", { list: ["Drop one file at a time."] });
  } else if (files.length === 1) check(files[0]);
});
$("submit-form").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});

allowSubmit("Choose a file first.");
