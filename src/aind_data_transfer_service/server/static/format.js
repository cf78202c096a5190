// Figures and times as a person reads them; `words.py` says the same on the server.

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];
const COUNT = new Intl.NumberFormat("en-GB");

/** Write a whole number with its thousands set apart. */
export const number = (value) => COUNT.format(Math.round(value));

/** Write a number of bytes. */
export function size(count) {
  if (count === null || count === undefined) return "–";
  let value = count;
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

/** Write a length of time in its two largest units. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "–";
  if (seconds < 1) return "under 1 s";
  const whole = Math.round(seconds);
  const steps = [["d", "h", 86400, 3600], ["h", "min", 3600, 60], ["min", "s", 60, 1]];
  for (const [unit, part, length, sub] of steps) {
    if (whole >= length) {
      const rest = Math.floor((whole % length) / sub);
      return `${Math.floor(whole / length)} ${unit}${rest ? ` ${rest} ${part}` : ""}`;
    }
  }
  return `${whole} s`;
}

/** Write a number of things. */
export const plural = (count, one, many) => `${number(count)} ${count === 1 ? one : many}`;

/** Write how many things a list leaves out. */
export const more = (count, one, many) => `${number(count)} more ${count === 1 ? one : many}`;

/** Write how far a job is: bytes, files, rate, time left. */
export function progressWords(job) {
  if (!job.files_total) return "";
  const files = plural(job.files_total, "file", "files");
  if (job.state === "COMPLETED") return lines([size(job.bytes_total), files]);
  const parts = [
    `${size(job.bytes_done ?? 0)} of ${size(job.bytes_total)}`,
    `${number(job.files_done ?? 0)} of ${files}`,
  ];
  if (job.state === "RUNNING") {
    if (job.bytes_per_second) parts.push(`${size(job.bytes_per_second)}/s`);
    if (job.seconds_left !== null && job.seconds_left !== undefined) {
      parts.push(`${duration(job.seconds_left)} left`);
    }
  }
  return lines(parts);
}

/** Join parts so that a line breaks between them, never within one. */
const lines = (parts) => parts.map((one) => one.replaceAll(" ", "\u00a0")).join(" · ");

/** Tell how much of a job's bytes have arrived, from 0 to 1, or null. */
export function share(job) {
  if (!job.files_total) return null;
  if (job.bytes_total) return Math.min(1, (job.bytes_done ?? 0) / job.bytes_total);
  return Math.min(1, (job.files_done ?? 0) / job.files_total);
}

/** Say what the figures of a job's progress mean in its state. */
export function progressHeading(state) {
  if (state === "COMPLETED") return "Arrived and verified";
  return ["SUBMITTED", "PENDING", "RUNNING"].includes(state) ? "Progress" : "How far it came";
}

/** Make the entries of a job's timeline: a step that has ended is one entry, with its seconds. */
export function timeline(events) {
  const entries = [];
  const begun = new Map();
  for (const event of events) {
    const entry = { ...event, seconds: null };
    const start = begun.get(event.step);
    if (event.kind === "start") begun.set(event.step, entry);
    else if ((event.kind === "end" || event.kind === "fail") && start) {
      entry.seconds = (new Date(event.time) - new Date(start.time)) / 1000;
      entries.splice(entries.indexOf(start), 1);
      begun.delete(event.step);
    }
    entries.push(entry);
  }
  return entries;
}

const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const SHORT = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const FULL = new Intl.DateTimeFormat("en-GB", {
  weekday: "long", day: "numeric", month: "long", year: "numeric",
  hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "long",
});

/** Say who runs a job. */
export function place({ executor, executor_ref: ref }) {
  return executor === "slurm" && ref ? `Slurm, as its job ${ref.split(":")[0]}` : executor || "–";
}

/** Write a day as 2024-02-19, in the reader's zone. */
function day(moment) {
  const two = (part) => String(part).padStart(2, "0");
  return `${moment.getFullYear()}-${two(moment.getMonth() + 1)}-${two(moment.getDate())}`;
}

/** Write a moment in the reader's zone: "today 14:05", or with its date. */
export function when(moment, now = new Date()) {
  if (day(moment) === day(now)) return `Today ${SHORT.format(moment)}`;
  return `${day(moment)} ${SHORT.format(moment)}`;
}

/** Write the time of day in the reader's zone, with seconds. */
export const clock = (moment) => CLOCK.format(moment);

/** Write a moment in full, with its zone. */
export const inFull = (moment) => FULL.format(moment);

/** Name the reader's zone. */
export function zoneName() {
  const options = new Intl.DateTimeFormat("en-GB", { timeZoneName: "short" });
  const part = options.formatToParts(new Date()).find((one) => one.type === "timeZoneName");
  const name = options.resolvedOptions().timeZone;
  return part && part.value !== name ? `${name} (${part.value})` : name;
}
