"use strict";
(() => {
  const find = (id) => document.getElementById(id);
  const bar = find("filters"), byLabel = find("by-label"), byAgreement = find("by-agreement");
  if (!bar) return;
  const items = [...document.querySelectorAll("[data-label]")];
  const groups = [...document.querySelectorAll(".group")];
  const count = (nodes) => nodes.filter((node) => node.tagName === "LI").length.toLocaleString("en");

  function apply() {
    const label = byLabel.value, agrees = byAgreement ? byAgreement.value : "";
    for (const item of items) {
      item.hidden = (label && item.dataset.label !== label) || (agrees && item.dataset.agrees !== agrees);
    }
    for (const group of groups) {
      const more = group.querySelector("details");
      group.hidden = !group.querySelector("li:not([hidden])");
      if (more && (label || agrees)) more.open = true;
    }
    find("count").textContent = `${count(items.filter((item) => !item.hidden))} of ${count(items)} images`;
  }

  function reset() {
    byLabel.value = "";
    if (byAgreement) byAgreement.value = "";
    apply();
  }

  byLabel.addEventListener("change", apply);
  if (byAgreement) byAgreement.addEventListener("change", apply);
  find("all").addEventListener("click", reset);
  window.addEventListener("hashchange", () => {
    const target = find(location.hash.slice(1));
    if (target && target.hidden) {
      reset();
      target.scrollIntoView();
    }
  });
  bar.hidden = false;
  apply();
})();
