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

function bar(share) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 100 8");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const rect = document.createElementNS(SVG, "rect");
  rect.setAttribute("width", String(Math.max(0, Math.min(100, 100 * share))));
  rect.setAttribute("height", "8");
  svg.append(rect);
  return svg;
}

function table(caption, rows, className) {
  const made = element("table", undefined, className);
  if (caption) made.append(element("caption", caption));
  const body = element("tbody");
  for (const { name, share, number, best } of rows) {
    const row = element("tr", undefined, best ? "best" : "");
    const heading = element("th", name);
    heading.scope = "row";
    heading.dir = "auto";
    const wide = element("td");
    wide.append(bar(share));
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

function marks(result) {
  const all = result.marks.map((mark) => mark.logit);
  const low = Math.min(...all), high = Math.max(...all);
  const side = (name, caption, className) => table(
    caption,
    result.marks.filter((mark) => mark.class === name).map((mark) => ({
      name: mark.descriptor,
      share: high > low ? 0.08 + 0.92 * (mark.logit - low) / (high - low) : 1,
      number: mark.logit.toFixed(1).replace("-", MINUS),
    })),
    className,
  );
  const made = element("div", undefined, "marks");
  const [best, second] = result.scores;
  made.append(side(best.class, `Marks of ${best.class}`, "lead"));
  if (second) made.append(side(second.class, `Runner-up: ${second.class}`, "second"));
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
  said.append(element("h2", result.label ?? "No label"));
  said.append(table("", result.scores.map((score, place) => ({
    name: score.class, share: score.probability, number: percent(score.probability), best: place === 0,
  }))));
  made.append(shown, said, marks(result));
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
