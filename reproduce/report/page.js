"use strict";

// --- tables ---

// A column sorts by its numbers where it has them, else by text; empty entries stay last either way.
function key(row, column) {
  const cell = row.cells[column];
  if (cell.dataset.key !== undefined) return Number(cell.dataset.key);
  const text = cell.textContent.trim();
  return text === "" ? null : text !== "" && !Number.isNaN(Number(text)) ? Number(text) : text.toLowerCase();
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
function filterRows(input) {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = [...document.getElementById(input.dataset.filter).tBodies[0].rows];
  for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
  const shown = rows.filter((row) => !row.hidden).length;
  document.querySelector(`[data-count="${input.dataset.filter}"]`).value = words.length ? `${shown} of ${rows.length} rows` : "";
}

// The columns that say what a row is about stay in sight: the last of them, as many as leave half of the width to the numbers.
function keepIds(scroll) {
  const table = scroll.querySelector("table");
  const heads = table.tHead ? [...table.tHead.rows[0].cells] : [];
  const count = [...(table.tBodies[0]?.rows[0]?.cells ?? [])].filter((cell) => cell.classList.contains("id")).length;
  const widths = heads.slice(0, count).map((head) => head.offsetWidth);
  let first = count;
  let total = 0;
  while (first > 0 && (first === count || total + widths[first - 1] <= scroll.clientWidth / 2)) total += widths[--first];
  for (const row of table.rows) {
    let left = 0;
    for (let column = 0; column < count; column += 1) {
      const cell = row.cells[column];
      if (!cell) break;
      cell.classList.toggle("stays", column >= first);
      cell.style.left = column >= first ? `${left}px` : "";
      if (column >= first) left += widths[column];
    }
  }
}

// --- findings ---

function showOutcome(outcome) {
  for (const button of document.querySelectorAll(".filter button")) {
    button.setAttribute("aria-pressed", String(button.dataset.outcome === outcome));
  }
  for (const item of document.querySelectorAll(".claims li")) item.hidden = outcome !== "" && item.dataset.outcome !== outcome;
  for (const kind of document.querySelectorAll(".kind")) kind.hidden = !kind.querySelector(".claims li:not([hidden])");
  const shown = document.querySelectorAll(".claims li:not([hidden])").length;
  document.querySelector(".filter output").value = outcome === "" ? "" : `${shown} shown`;
}

// A link to a finding shows and opens it.
function openFinding() {
  const item = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!item?.matches(".claims li")) return;
  if (item.hidden) showOutcome("");
  item.querySelector("details").open = true;
  item.scrollIntoView();
}

// --- figures and sliders ---

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
for (const input of document.querySelectorAll("[data-filter]")) input.addEventListener("input", () => filterRows(input));
for (const button of document.querySelectorAll(".filter button")) button.addEventListener("click", () => showOutcome(button.dataset.outcome));
for (const button of document.querySelectorAll("button.figure")) button.addEventListener("click", () => enlarge(button));
for (const input of document.querySelectorAll(".slider input")) input.addEventListener("input", () => slide(input));
for (const scroll of document.querySelectorAll(".scroll")) {
  new ResizeObserver(() => keepIds(scroll)).observe(scroll); // a table in a closed finding gets its width when it is opened
}
addEventListener("hashchange", openFinding);
openFinding();
