// What the scripts of all pages share: asking the service, making elements, showing times.

import { clock, inFull, more, when, zoneName } from "./format.js";

/** The folder that a proxy may serve us under. */
export const ROOT = document.documentElement.dataset.root;

/** An answer of the service that is no success, in its own words. */
export class Refusal extends Error {
  constructor(status, message, data) {
    super(message);
    this.status = status;
    this.data = data;
    this.errors = data.errors ?? [];
  }
}

/** Ask the service; give the envelope's data, or throw a Refusal. */
export async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(ROOT + path, { headers: { accept: "application/json" }, ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "The service does not answer", {
      errors: ["Check the connection, then try again. Nothing has been lost."],
    });
  }
  let envelope;
  try {
    envelope = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const said = `It answered ${response.status} ${response.statusText} and no more.`;
    throw new Refusal(response.status, "The answer could not be understood", { errors: [said] });
  }
  if (!response.ok) throw new Refusal(response.status, envelope.message, envelope.data ?? {});
  return envelope.data;
}

/** Post JSON. */
export const post = (path, body = undefined) =>
  ask(path, {
    method: "POST",
    headers: { accept: "application/json", "content-type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });

/** Make an element; text given to it stays text. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Find the part of an element that shows a field. */
export const part = (element, name) => element.querySelector(`[data-field="${name}"]`);

/** Set a text only where it changes, so that nothing is read out twice. */
export function say(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

/** Show a moment in the reader's zone. */
export function showTime(element, moment, write = when) {
  const time = element.matches("time") ? element : element.querySelector("time");
  if (!moment) {
    time.removeAttribute("datetime");
    time.removeAttribute("title");
    say(time, "–");
    return;
  }
  const date = new Date(moment);
  time.setAttribute("datetime", moment);
  time.title = inFull(date);
  say(time, write(date));
}

/** Show all moments of the page in the reader's zone, and name it. */
export function showTimes() {
  for (const time of document.querySelectorAll("time[datetime]")) {
    const write = time.closest(".timeline") ? clock : when;
    showTime(time, time.getAttribute("datetime"), write);
  }
  say(document.getElementById("zone-note"), `Times are shown in ${zoneName()}.`);
}

/** Show a message in a live region: title, a sentence of detail, a list, further elements. */
export function tell(region, tone, title, { detail = "", list = [], extra = [] } = {}) {
  const shown = list.slice(0, 50);
  if (list.length > shown.length) shown.push(more(list.length - shown.length, "line", "lines"));
  const box = make("div", { "data-tone": tone }, make("p", { class: "message-title" }, title));
  if (detail) box.append(make("p", { class: "message-detail" }, detail));
  if (shown.length) box.append(make("ul", {}, ...shown.map((line) => make("li", {}, line))));
  box.append(...extra);
  region.replaceChildren(box);
}
