// The status page: filters, sorting and pages without reloading, and rows that change as the jobs do.

import { ask, say, showTime, showTimes } from "./common.js";
import { number, plural } from "./format.js";
import { fillOther, fillRow, showTook } from "./jobrow.js";
import { follow } from "./live.js";

const $ = (id) => document.getElementById(id);
const form = $("filters");
const rows = $("rows");
const table = document.querySelector("table.jobs");
const blank = $("job-row").content.querySelector("tr");
const otherRows = $("other-rows");
const blankOther = $("other-row").content.querySelector("tr");
const USUAL = { sort: "submitted_at", order: "desc", page_size: "50", page: "1" };
const FILTERS = ["text", "submitter", "since", "until", "state"];

let page = Number(new URLSearchParams(location.search).get("page")) || 1;
let asking = null;
let later = null;

/** Compose the query of what the form and the page number ask for. */
function query(changes = {}) {
  const wanted = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value) wanted.append(name, value);
  wanted.set("page", page);
  for (const [name, value] of Object.entries(changes)) wanted.set(name, value);
  for (const [name, value] of Object.entries(USUAL)) {
    if (wanted.get(name) === value) wanted.delete(name);
  }
  return wanted;
}

/** Ask for the list again and show it. */
async function refresh({ announce = false } = {}) {
  clearTimeout(later);
  later = null;
  asking?.abort();
  const mine = (asking = new AbortController());
  try {
    const list = await ask(`/api/jobs?${query()}`, { signal: mine.signal });
    show(list);
    if (announce) say($("announce"), `${plural(list.total, "job fits", "jobs fit")}.`);
  } catch (error) {
    if (error.name === "AbortError") return;
    say($("announce"), error.errors?.[0] ?? error.message);
    later ??= setTimeout(refresh, 5000);
  } finally {
    if (asking === mine) table.setAttribute("aria-busy", "false");
  }
}

/** Ask again soon: many changes in a row make one request. */
function refreshSoon() {
  later ??= setTimeout(refresh, 700);
}

/** Show a list, keeping the rows that stay, and with them the reader's focus. */
function show({ jobs, total, counts, others, silent_since: silentSince, page_size: pageSize }) {
  showOthers(others);
  $("silence").hidden = !silentSince;
  showTime($("silence"), silentSince);
  const pages = Math.max(1, Math.ceil(total / pageSize));
  if (page > pages) {
    page = pages;
    go();
    return;
  }
  const known = new Map([...rows.children].map((row) => [row.dataset.job, row]));
  const wanted = jobs.map((job) => {
    const row = known.get(job.id) ?? blank.cloneNode(true);
    fillRow(row, job);
    return row;
  });
  for (const row of [...rows.children]) if (!wanted.includes(row)) row.remove();
  wanted.forEach((row, place) => {
    if (rows.children[place] !== row) rows.insertBefore(row, rows.children[place] ?? null);
  });
  for (const count of document.querySelectorAll("[data-count]")) {
    say(count, number(counts[count.dataset.count] ?? 0));
  }
  const filtered = FILTERS.some((name) => query().has(name));
  $("clear").hidden = !filtered;
  $("empty-all").hidden = total > 0 || filtered;
  $("empty-filtered").hidden = total > 0 || !filtered;
  $("pager").hidden = total === 0;
  const first = (page - 1) * pageSize + 1;
  say($("span-words"), `${number(first)}–${number(Math.min(page * pageSize, total))} of ${number(total)}`);
  say($("page-words"), `Page ${number(page)} of ${number(pages)}`);
  point($("previous"), page > 1, page - 1);
  point($("next"), page < pages, page + 1);
  showSorting();
}

/** Show the jobs that others started. */
function showOthers({ jobs, total }) {
  const known = new Map([...otherRows.children].map((row) => [row.dataset.number, row]));
  otherRows.replaceChildren(
    ...jobs.map((job) => {
      const row = known.get(String(job.number)) ?? blankOther.cloneNode(true);
      fillOther(row, job);
      return row;
    }),
  );
  $("others").hidden = !total;
  say($("others-more"), total > jobs.length ? `${number(jobs.length)} of ${number(total)} are shown.` : "");
}

/** Have a link lead to a page, or nowhere. */
function point(link, possible, to) {
  if (possible) {
    link.href = `?${query({ page: to })}`;
    link.removeAttribute("aria-disabled");
  } else {
    link.removeAttribute("href");
    link.setAttribute("aria-disabled", "true");
  }
}

/** Show by which column the list is sorted. */
function showSorting() {
  const { sort, order } = form.elements;
  for (const head of document.querySelectorAll("[data-sort]")) {
    const here = head.dataset.sort === sort.value;
    if (here) head.setAttribute("aria-sort", order.value === "desc" ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
    const next = here && order.value === "desc" ? "asc" : "desc";
    head.firstElementChild.href = `?${query({ sort: head.dataset.sort, order: next, page: 1 })}`;
  }
}

/** Show what is asked for now, and remember it in the address. */
function go() {
  const search = query().toString();
  history.pushState(null, "", search ? `?${search}` : location.pathname);
  table.setAttribute("aria-busy", "true");
  refresh({ announce: true });
}

/** Take filters, sorting and page from an address. */
function takeOver(search) {
  const wanted = new URLSearchParams(search);
  for (const name of ["text", "submitter", "since", "until"]) {
    form.elements[name].value = wanted.get(name) ?? "";
  }
  for (const box of form.querySelectorAll('[name="state"]')) {
    box.checked = wanted.getAll("state").includes(box.value);
  }
  form.elements.sort.value = wanted.get("sort") ?? USUAL.sort;
  form.elements.order.value = wanted.get("order") ?? USUAL.order;
  $("page-size").value = wanted.get("page_size") ?? USUAL.page_size;
  page = Number(wanted.get("page")) || 1;
}

/** Empty a filter. */
function clearField(name) {
  for (const field of form.querySelectorAll(`[name="${name}"]`)) {
    if (field.type === "checkbox") field.checked = false;
    else field.value = "";
  }
}

let typing = null;
form.addEventListener("input", (event) => {
  page = 1;
  clearTimeout(typing);
  typing = setTimeout(go, event.target.type === "search" ? 250 : 0);
});
$("page-size").addEventListener("change", () => {
  page = 1;
  go();
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typing);
  go();
});
document.addEventListener("click", (event) => {
  const link = event.target.closest(".pager-links a[href], [data-sort] a, #clear, [data-clear]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  if (link.matches("#clear, [data-clear]")) {
    for (const name of FILTERS) clearField(name);
    page = 1;
  } else takeOver(link.search);
  go();
});
addEventListener("popstate", () => {
  takeOver(location.search);
  refresh({ announce: true });
});

follow({
  onJob(job) {
    const row = [...rows.children].find((one) => one.dataset.job === job.id);
    if (!row || row.dataset.state !== job.state) refreshSoon();
    if (row) fillRow(row, job);
  },
  onOthers: refreshSoon,
  onCatchUp: refresh,
  onState(state) {
    $("live").dataset.live = state;
    say($("live-words"), { on: "Live", poll: "Asking every 5 s", off: "Not live" }[state]);
  },
});

setInterval(() => {
  for (const took of document.querySelectorAll('tr[data-state="RUNNING"] [data-field="took"]')) showTook(took);
}, 1000);
showTimes();
