"use strict";
// Tables that sort; the table of answers also filters, turns pages and is exported.
const table = (() => {
  const known = (text) => (text === "" || text === "–" || text === "nan" ? null : text);
  const value = (row, column) => known(row.cells[column].dataset.value ?? row.cells[column].textContent.trim());
  const compare = (x, y) => {
    if (x === null || y === null) return (x === null) - (y === null);
    const [a, b] = [Number(x), Number(y)];
    if (!Number.isNaN(a) && !Number.isNaN(b)) return a === b ? 0 : a - b;
    return x.localeCompare(y, undefined, { numeric: true });
  };
  const sort = (node, column) => {
    const header = node.tHead.rows[0].cells[column];
    const ascending = header.getAttribute("aria-sort") !== "ascending";
    for (const other of node.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const keyed = [...node.tBodies[0].rows].map((row) => [value(row, column), row]);
    keyed.sort(([x], [y]) => (ascending || x === null || y === null ? compare(x, y) : compare(y, x)));
    node.tBodies[0].append(...keyed.map(([, row]) => row));
  };
  document.querySelectorAll("table.sortable").forEach((node) => {
    [...node.tHead.rows[0].cells].forEach((header, column) => {
      header.querySelector("button").addEventListener("click", () => {
        sort(node, column);
        if (node.id === "answers") show(0);
      });
    });
  });

  const answers = document.getElementById("answers");
  const form = document.getElementById("filters");
  const found = document.getElementById("found");
  const listeners = [];
  let page = 0;

  const passes = (row, asked) => {
    const words = asked.text.toLowerCase().split(/\s+/).filter(Boolean);
    const text = row.dataset.text.toLowerCase();
    const least = (name, scale) => !asked[name] || (row.dataset[name] !== ""
      && Number(row.dataset[name]) >= Number(asked[name]) / scale);
    return words.every((word) => text.includes(word))
      && ["status", "verdict", "method", "doubts"].every((name) => !asked[name] || row.dataset[name] === asked[name])
      && least("odds", 100) && least("share", 100) && least("gap", 1);
  };
  const matching = () => {
    const asked = Object.fromEntries(new FormData(form));
    return [...answers.tBodies[0].rows].filter((row) => passes(row, asked));
  };
  const show = (number) => {
    const rows = matching();
    const size = Number(form.elements.size.value) || Math.max(rows.length, 1);
    const last = Math.max(0, Math.ceil(rows.length / size) - 1);
    page = Math.min(Math.max(number, 0), last);
    const here = new Set(rows.slice(page * size, (page + 1) * size));
    for (const row of answers.tBodies[0].rows) row.hidden = !here.has(row);
    const first = page * size + 1;
    found.textContent = rows.length
      ? `${first}–${first + here.size - 1} of ${rows.length}` : "No structure passes the filters.";
    document.querySelector('[data-page="-1"]').disabled = page === 0;
    document.querySelector('[data-page="1"]').disabled = page === last;
    listeners.forEach((listener) => listener([...here]));
  };
  let waiting = 0;
  form.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => show(0), 120);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  document.querySelectorAll("[data-page]").forEach((button) => {
    button.addEventListener("click", () => show(page + Number(button.dataset.page)));
  });

  const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  document.getElementById("csv").addEventListener("click", async () => {
    const { columns, rows } = (await parts.json("overview")).results;
    const order = new Map(matching().map((row, number) => [row.dataset.id, number]));
    const chosen = rows.filter((row) => order.has(row[0])).sort((a, b) => order.get(a[0]) - order.get(b[0]));
    const text = [columns, ...chosen].map((row) => row.map(quoted).join(",")).join("\n");
    parts.download("results.csv", "text/csv", `${text}\n`);
  });
  const ids = () => matching().filter((row) => row.dataset.chunk !== "").map((row) => row.dataset.id);
  const row = (id) => [...answers.tBodies[0].rows].find((one) => one.dataset.id === id);
  return { show, ids, row, onShow: (listener) => listeners.push(listener) };
})();
