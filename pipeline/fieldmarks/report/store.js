"use strict";
(() => {
  const find = (id) => document.getElementById(id);
  const bar = find("filters"), words = find("words"), which = find("which");
  if (!bar) return;
  const shown = (node) => [...node.querySelectorAll("h2, .text")].map((part) => part.textContent).join("\n");
  const items = [...document.querySelectorAll(".class")].map((node) => [node, shown(node).toLowerCase()]);
  const fits = {
    "": () => true,
    open: (node) => node.dataset.review !== "approved",
    unsure: (node) => node.dataset.review === "unsure",
    approved: (node) => node.dataset.review === "approved",
    flagged: (node) => "flagged" in node.dataset,
  };

  function apply() {
    const wanted = words.value.trim().toLowerCase();
    let count = 0;
    for (const [node, text] of items) {
      node.hidden = !(text.includes(wanted) && fits[which ? which.value : ""](node));
      count += !node.hidden;
    }
    find("count").textContent = `${count.toLocaleString("en")} of ${items.length.toLocaleString("en")} classes`;
  }

  words.addEventListener("input", apply);
  if (which) which.addEventListener("change", apply);
  bar.addEventListener("submit", (event) => event.preventDefault());
  bar.addEventListener("reset", () => setTimeout(apply));
  window.addEventListener("hashchange", () => {
    const target = find(location.hash.slice(1));
    if (target && target.hidden) {
      bar.reset();
      apply();
      target.scrollIntoView();
    }
  });
  bar.hidden = false;
  apply();
})();
