// Messages of the page itself, for what no answer of the service can say.

import "./htmx.js";

const blank = document.getElementById("message-template").content;

/** Show a message in a live region: a title, a sentence, lines. */
export function tell(region, tone, title, detail = "", lines = []) {
  const box = blank.cloneNode(true).firstElementChild;
  box.dataset.tone = tone;
  const [head, sentence, list] = box.children;
  head.textContent = title;
  sentence.textContent = detail;
  sentence.hidden = !detail;
  list.replaceChildren(...lines.map((line) => Object.assign(document.createElement("li"), { textContent: line })));
  list.hidden = !lines.length;
  region.replaceChildren(box);
}

const region = (element) => document.querySelector(element.dataset.message ?? "#message");

document.addEventListener("htmx:error", ({ target, detail }) => {
  if (!detail.ctx || target.id === "stream") return;
  const line = "Check the connection, then try again. Nothing has been lost.";
  const said = "The service does not answer";
  const { failure } = target.dataset;
  tell(region(target), "error", failure ?? said, failure ? said : "", [line]);
});
document.addEventListener("htmx:response:error", ({ target, detail: { ctx } }) => {
  if (target.id === "stream" || ctx.hx.reswap) return;
  ctx.swap = "none"; // what a proxy answers is no part of our pages
  let said;
  try {
    said = JSON.parse(ctx.text);
  } catch {
    const line = `It answered ${ctx.response.status} ${ctx.response.raw.statusText} and no more.`;
    said = { message: "The answer could not be understood", data: { errors: [line] } };
  }
  tell(region(target), "error", target.dataset.failure ?? said.message, "", said.data.errors);
});
