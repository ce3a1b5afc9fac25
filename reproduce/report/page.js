"use strict";

// A column sorts by number where its first entries are numbers, else by text; empty entries stay last either way.
function key(row, column) {
  const text = row.cells[column].textContent.trim();
  const number = parseFloat(text.replace(/^x /, ""));
  return text === "" ? null : Number.isNaN(number) ? text.toLowerCase() : number;
}

function sortBy(header) {
  const table = header.closest("table");
  const ascending = header.getAttribute("aria-sort") !== "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const side = ascending ? 1 : -1;
  const rows = [...table.tBodies[0].rows].map((row) => [key(row, header.cellIndex), row]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a === typeof b) return a < b ? -side : a > b ? side : 0;
    return typeof a === "number" ? -1 : 1;
  });
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

// Every word typed has to be in the row.
function filter(input) {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = [...document.getElementById(input.dataset.filter).tBodies[0].rows];
  for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
  const shown = rows.filter((row) => !row.hidden).length;
  document.querySelector(`[data-count="${input.dataset.filter}"]`).value = words.length ? `${shown} of ${rows.length} rows` : "";
}

function enlarge(button) {
  const dialog = document.querySelector("dialog");
  const shown = dialog.querySelector("img");
  const image = button.querySelector("img");
  shown.src = image.src;
  shown.alt = image.alt;
  dialog.showModal();
}

// A slider shows one frame of each strip of frames, and its caption.
function slide(input) {
  const positions = JSON.parse(input.dataset.positions);
  const at = Number(input.value);
  const box = input.closest(".slider");
  box.querySelector("output").value = positions[at];
  input.setAttribute("aria-valuetext", positions[at]);
  const share = positions.length > 1 ? (100 * at) / (positions.length - 1) : 0;
  for (const frame of box.querySelectorAll(".frame")) frame.style.backgroundPosition = `${share}% 0`;
  for (const caption of box.querySelectorAll("figcaption"))
    caption.querySelector("span").textContent = JSON.parse(caption.dataset.captions)[at];
}

for (const button of document.querySelectorAll("th button")) button.addEventListener("click", () => sortBy(button.closest("th")));
for (const input of document.querySelectorAll("[data-filter]")) input.addEventListener("input", () => filter(input));
for (const button of document.querySelectorAll("button.figure")) button.addEventListener("click", () => enlarge(button));
for (const input of document.querySelectorAll(".slider input")) input.addEventListener("input", () => slide(input));
