"use strict";
// What a figure answers: the nearest of its spots within reach of the pointer.
const tip = document.getElementById("tip");
document.querySelectorAll("figure").forEach(figure => {
  const spots = JSON.parse(figure.querySelector("script").textContent);
  const ask = event => {
    const svg = [...figure.querySelectorAll("svg")].find(svg => svg.getBoundingClientRect().width > 0);
    const box = svg.getBoundingClientRect(), scale = box.width / (svg.viewBox.baseVal.width / 10);
    const x = (event.clientX - box.left) / scale, y = (event.clientY - box.top) / scale;
    let nearest = null, least = 26 / Math.min(scale, 1);
    for (const spot of spots) {
      const distance = Math.hypot(spot[0] - x, spot[1] - y);
      if (distance < least) { least = distance; nearest = spot; }
    }
    if (!nearest) { tip.style.display = "none"; return; }
    tip.textContent = nearest[2];
    tip.style.display = "block";
    const left = box.left + nearest[0] * scale + 12, top = box.top + nearest[1] * scale + 12;
    tip.style.left = Math.max(4, Math.min(left, innerWidth - tip.offsetWidth - 4)) + "px";
    tip.style.top = Math.max(4, Math.min(top, innerHeight - tip.offsetHeight - 4)) + "px";
  };
  figure.addEventListener("pointermove", ask);
  figure.addEventListener("pointerdown", ask);
  figure.addEventListener("pointerleave", () => { tip.style.display = "none"; });
});
// A table is sorted by the column whose title is pressed; numbers as numbers, what is no number last.
document.querySelectorAll("table.sorts").forEach(table => {
  table.querySelectorAll("th").forEach((title, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...title.childNodes);
    title.append(button);
    button.addEventListener("click", () => {
      const down = title.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
      title.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = row => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const number = text => { const found = /^[+\u2212-]?\d[\d,.]*(e-?\d+)?/.exec(text); return found ? parseFloat(found[0].replace("\u2212", "-").replace(/,/g, "")) : NaN; };
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => {
        const [x, y] = [key(a), key(b)], [m, n] = [number(x), number(y)];
        if (isNaN(m) !== isNaN(n)) return isNaN(m) ? 1 : -1;
        const order = isNaN(m) ? x.localeCompare(y) : m - n;
        return down ? -order : order;
      });
      table.tBodies[0].append(...rows);
    });
  });
});
