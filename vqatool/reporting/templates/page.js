"use strict";
// Tables that sort, filter and turn over; everything else of the page works without this script.

const collator = new Intl.Collator(undefined, { numeric: true });

function startTable(root) {
  const data = JSON.parse(root.querySelector("script").textContent);
  const form = root.querySelector("form");
  const pages = root.querySelector(".pages");
  const region = root.querySelector(".scroll");
  const headings = [...root.querySelectorAll("thead th")];
  const inputs = [...form.querySelectorAll("[data-filter]")];
  const texts = []; // what the text filter searches, made when it is first used
  let order = data.rows.map((row, index) => index);
  let matched = order;
  let start = 0;

  function cell(name, text, column) {
    const made = document.createElement(name);
    made.textContent = text;
    if (data.numbers[column]) made.className = "number";
    return made;
  }

  function heading(index) {
    const made = cell("th", data.links[index] ? "" : data.rows[index][0], 0);
    made.scope = "row";
    if (data.links[index]) {
      const link = document.createElement("a");
      link.href = data.links[index];
      link.textContent = data.rows[index][0];
      made.append(link);
    }
    return made;
  }

  function show() {
    const shown = matched.slice(start, start + data.shown);
    const body = document.createElement("tbody");
    for (const index of shown) {
      const line = document.createElement("tr");
      line.append(heading(index));
      data.rows[index].slice(1).forEach((text, at) => line.append(cell("td", text, at + 1)));
      body.append(line);
    }
    root.querySelector("tbody").replaceWith(body);
    tell();
  }

  function tell() {
    const end = Math.min(start + data.shown, matched.length);
    const range = matched.length ? `Rows ${start + 1} to ${end} of ${matched.length.toLocaleString("en")}` : "No row";
    const all = matched.length < data.rows.length ? `, filtered from ${data.rows.length.toLocaleString("en")}` : "";
    root.querySelector(".count").textContent = range + all;
    pages.hidden = matched.length <= data.shown;
    const [back, on] = pages.querySelectorAll("button");
    back.disabled = start === 0;
    on.disabled = end >= matched.length;
  }

  function matches(index, filter, value, column) {
    const text = data.rows[index][column];
    switch (filter) {
      case "text":
        texts[index] ??= data.rows[index].join("\n").toLowerCase();
        return texts[index].includes(value.toLowerCase());
      case "choice":
        return value === "-" ? !text : text.split(", ").includes(value);
      case "from":
        return parseFloat(text) >= parseFloat(value);
      default:
        return parseFloat(text) <= parseFloat(value);
    }
  }

  function filter() {
    matched = order;
    for (const input of inputs) {
      const value = input.value.trim();
      const { filter, column } = input.dataset;
      if (value) matched = matched.filter((index) => matches(index, filter, value, column));
    }
    start = 0;
    show();
  }

  function sort(column, isDescending) {
    const values = data.rows.map((row) => (data.numbers[column] ? parseFloat(row[column]) : row[column]));
    const isEmpty = (value) => value === "" || Number.isNaN(value);
    const compare = data.numbers[column] ? (a, b) => a - b : collator.compare;
    order = data.rows.map((row, index) => index);
    order.sort((a, b) => {
      // rows without a value are last in both directions
      const gap = isEmpty(values[a]) - isEmpty(values[b]);
      if (gap || isEmpty(values[a])) return gap;
      return isDescending ? compare(values[b], values[a]) : compare(values[a], values[b]);
    });
    headings.forEach((each) => each.removeAttribute("aria-sort"));
    headings[column].setAttribute("aria-sort", isDescending ? "descending" : "ascending");
    filter();
  }

  headings.forEach((each, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = each.textContent;
    button.addEventListener("click", () => sort(column, each.getAttribute("aria-sort") === "ascending"));
    each.replaceChildren(button);
  });
  pages.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    start += Number(button.dataset.turn) * data.shown;
    show();
    region.scrollIntoView();
    if (button.disabled) region.focus();
  });
  let waiting;
  form.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(filter, 100);
  });
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("click", (event) => {
    const link = event.target.closest(`a[href="#${root.dataset.table}"][data-choose]`);
    if (!link) return;
    const column = headings.findIndex((each) => each.textContent === link.dataset.choose);
    form.reset();
    form.querySelector(`select[data-column="${column}"]`).value = link.dataset.value;
    filter();
  });
  form.hidden = false;
  tell();
}

document.querySelectorAll("[data-table]").forEach(startTable);
