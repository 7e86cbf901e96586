"use strict";

// Everything that comes from the server is put in as text, never as markup.
const SVG = "http://www.w3.org/2000/svg";
const MINUS = "\u2212";
const byId = (id) => document.getElementById(id);

// A token may come in the fragment of the address, which browsers do not send; it stays in this page.
let token = new URLSearchParams(location.hash.slice(1)).get("token") ?? "";
if (location.hash) history.replaceState(null, "", location.pathname);

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function shape(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  return made;
}

// A bar from zero on the line from `low` to `high`; a negative one goes to the left.
function bar(value, low, high) {
  const svg = shape("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" });
  const span = (high - low) || 1;
  const zero = -100 * low / span, length = 100 * Math.abs(value) / span;
  svg.append(shape("rect", { x: value < 0 ? zero - length : zero, width: length, height: 8 }));
  if (low < 0) svg.append(shape("path", { d: `M${zero} 0V8` }));
  return svg;
}

function table(caption, rows, className, low = 0, high = 1) {
  const made = element("table", undefined, className);
  if (caption) made.append(element("caption", caption));
  const body = element("tbody");
  for (const { name, value, number, best } of rows) {
    const row = element("tr", undefined, best ? "best" : "");
    const heading = element("th", name);
    heading.scope = "row";
    heading.dir = "auto";
    const wide = element("td");
    if (value !== undefined) wide.append(bar(value, low, high));
    row.append(heading, wide, element("td", number, "n"));
    body.append(row);
  }
  made.append(body);
  return made;
}

function percent(share) {
  if (share >= 0.9995) return ">99.9%";
  return share < 0.0005 ? "<0.1%" : `${(100 * share).toFixed(1)}%`;
}

function decimal(value) {
  return (Math.round(10 * value) / 10 || 0).toFixed(1).replace("-", MINUS);  // no minus before zero
}

// A mark's part of the logit where weights were learned, with its weight; else its score.
function number(mark) {
  const weight = mark.weight === undefined ? "" : ` \u00d7${decimal(mark.weight)}`;
  return decimal(mark.contribution ?? mark.logit) + weight;
}

function marks(result) {
  const strengths = result.marks.map((mark) => mark.contribution ?? mark.logit);
  const low = Math.min(0, ...strengths), high = Math.max(0, ...strengths);
  const side = (name, caption, className, offset) => {
    const rows = result.marks.filter((mark) => mark.class === name).map((mark) => ({
      name: mark.from ? `${mark.descriptor} (of ${mark.from})` : mark.descriptor,
      value: mark.contribution ?? mark.logit,
      number: number(mark),
    }));
    if (offset !== undefined) rows.push({ name: "class offset", number: decimal(offset) });
    return table(caption, rows, className, low, high);
  };
  const isWeighted = result.marks.some((mark) => mark.weight !== undefined);
  const made = element("div", undefined, isWeighted ? "marks weighted" : "marks");
  const [best, second] = [...new Set(result.marks.map((mark) => mark.class))];
  const [own, other] = result.offsets ?? [];
  made.append(side(best, `Marks of ${best}`, "lead", own));
  if (second !== undefined) made.append(side(second, `Runner-up: ${second}`, "second", other));
  if (result.decided) {
    const { for: won, against: lost } = result.decided;
    const line = element("p", undefined, "decided");
    line.append(element("strong", "Deciding pair"));
    line.append(`\u201c${won.descriptor}\u201d ${number(won)} against \u201c${lost.descriptor}\u201d ${number(lost)}`);
    made.append(line);
  }
  return made;
}

function card(file, result) {
  const made = element("article", undefined, "card");
  const shown = element("div");
  const image = element("img");
  image.alt = file.name;
  image.addEventListener("error", () => image.remove());  // a format that the browser does not show
  image.addEventListener("load", () => URL.revokeObjectURL(image.src));
  image.src = URL.createObjectURL(file);
  shown.append(image, element("p", file.name, "name"));
  const said = element("div");
  if (result.error) {
    said.append(element("p", result.error, "error"));
    made.append(shown, said);
    return made;
  }
  said.append(element("h2", result.label ?? `(${result.abstained})`));
  if (result.reason) said.append(element("p", result.reason, "soft"));
  if (result.labels) {
    const some = result.labels.join(", ") || "none";
    said.append(element("p", `${result.label === null ? "Would be one of" : "One of"}: ${some}`, "soft"));
  }
  said.append(table("", result.scores.map((score, place) => ({
    name: score.class, value: score.probability, number: percent(score.probability), best: place === 0,
  }))));
  made.append(shown, said);
  if (result.marks?.length) made.append(marks(result));
  return made;
}

async function ask(path, options = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(path, { ...options, headers });
  if (answer.status === 401) {
    byId("ask").hidden = false;
    byId("token").focus();
  }
  return answer;
}

function say(text, isError = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("error", isError);
}

async function classify(files) {
  const images = [...files];
  if (!images.length) return;
  say(images.length === 1 ? "Looking …" : `Looking at ${images.length} images …`);
  const form = new FormData();
  for (const image of images) form.append("images", image, image.name);
  try {
    const answer = await ask("classify?explain=true", { method: "POST", body: form });
    const text = await answer.text();
    if (answer.status !== 200 && answer.status !== 422) {
      say(JSON.parse(text).error ?? `The server answered ${answer.status}.`, true);
      return;
    }
    const results = text.trim().split("\n").map((line) => JSON.parse(line));
    byId("results").prepend(...images.map((image, place) => card(image, results[place])));
    say("");
  } catch {
    say("The server did not answer.", true);
  }
}

async function describe() {
  try {
    const answer = await ask("classes");
    if (!answer.ok) {
      byId("about").textContent = "";
      return;
    }
    const { classes } = await answer.json();
    const few = classes.slice(0, 8).join(", ");
    const more = classes.length > 8 ? ` and ${(classes.length - 8).toLocaleString("en")} more` : "";
    byId("about").textContent = `One of ${classes.length.toLocaleString("en")} classes: ${few}${more}.`;
  } catch {
    byId("about").textContent = "The server did not answer.";
  }
}

const drop = byId("drop");
for (const kind of ["dragenter", "dragover"]) {
  drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
for (const kind of ["dragleave", "drop"]) {
  drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.remove("over"); });
}
for (const kind of ["dragover", "drop"]) {  // an image beside the field is not opened instead of the page
  window.addEventListener(kind, (event) => event.preventDefault());
}
drop.addEventListener("drop", (event) => classify(event.dataTransfer.files));
byId("file").addEventListener("change", (event) => { classify(event.target.files); event.target.value = ""; });
byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token").value.trim();
  byId("token").value = "";
  byId("ask").hidden = true;
  describe();
});
describe();
