// Times in the reader's zone, and durations that count on. The server renders everything else.

const SHORT = { hour: "2-digit", minute: "2-digit" };
const CLOCK = new Intl.DateTimeFormat("en-GB", { ...SHORT, second: "2-digit" });
const FULL = new Intl.DateTimeFormat("en-GB", {
  weekday: "long", day: "numeric", month: "long", year: "numeric",
  hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "long",
});
const ZONE = new Intl.DateTimeFormat("en-GB", { timeZoneName: "short" });

const two = (part) => String(part).padStart(2, "0");
const day = (moment) => `${moment.getFullYear()}-${two(moment.getMonth() + 1)}-${two(moment.getDate())}`;

/** Set a text only where it changes, so that nothing is read out or rendered twice. */
function say(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

/** Write a time as "Today 14:05", or with its date; in a timeline, with seconds and without a date. */
function localTime(element) {
  const moment = new Date(element.dateTime);
  const date = day(moment) === day(new Date()) ? "Today" : day(moment);
  const written = new Intl.DateTimeFormat("en-GB", SHORT).format(moment);
  element.title = FULL.format(moment);
  say(element, element.closest(".timeline") ? CLOCK.format(moment) : `${date} ${written}`);
}

/** Write a duration as `formatting.duration` does on the server. */
export function duration(seconds) {
  if (seconds < 1) return "under 1 s";
  const whole = Math.round(seconds);
  for (const [unit, part, length, sub] of [["d", "h", 86400, 3600], ["h", "min", 3600, 60], ["min", "s", 60, 1]]) {
    if (whole < length) continue;
    const rest = Math.floor((whole % length) / sub);
    return `${Math.floor(whole / length)} ${unit}${rest ? ` ${rest} ${part}` : ""}`;
  }
  return `${whole} s`;
}

/** Write how long the jobs below an element have been running. */
function countDurations(root) {
  for (const element of root.querySelectorAll("[data-since]")) {
    const seconds = (Date.now() - new Date(element.dataset.since)) / 1000;
    say(element, element.dataset.prefix + duration(Math.max(0, seconds)));
  }
}

/** Write all times below an element for the reader. */
function localize(root) {
  for (const element of root.querySelectorAll("time[datetime]")) localTime(element);
  countDurations(root);
}

// What is swapped in is changed before it is: so nothing flickers, and what is equal stays untouched.
document.addEventListener("htmx:before:swap", (event) => {
  for (const { fragment } of event.detail.tasks) localize(fragment);
});
setInterval(() => {
  if (!document.hidden) countDurations(document);
}, 1000);
localize(document);
const zone = ZONE.formatToParts(new Date()).find((one) => one.type === "timeZoneName")?.value;
const name = ZONE.resolvedOptions().timeZone;
say(document.getElementById("zone-note"), `Times are shown in ${zone && zone !== name ? `${name} (${zone})` : name}.`);
