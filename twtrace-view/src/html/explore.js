"use strict";
(() => {
  // Headings of tables sort their rows: numbers from the largest, text from A.
  const UNITS = {
    us: 1e-6, ms: 1e-3, s: 1, m: 60, h: 3600, d: 86400,
    B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40, PiB: 2 ** 50, EiB: 2 ** 60,
  };
  // A number as the page writes it: 12,345, ~7, 48.0%, 2m05s, 9.1 KiB. What is none is less than all.
  const amount = (text) => {
    const parts = [...text.replaceAll(",", "").matchAll(/(\d+(?:\.\d+)?)\s*(us|ms|[KMGTPE]iB|[smhdB])?/g)];
    if (parts.length === 0) return -1;
    const timed = parts.filter((part) => part[2]);
    const counted = timed.length > 0 ? timed : parts.slice(0, 1);
    return counted.reduce((sum, part) => sum + Number(part[1]) * (UNITS[part[2]] ?? 1), 0);
  };
  const byText = new Intl.Collator("en", { numeric: true }).compare;
  const sort = (table, head) => {
    const column = head.cellIndex;
    const isNumber = head.classList.contains("number");
    const first = isNumber ? "descending" : "ascending";
    const second = isNumber ? "ascending" : "descending";
    const order = head.getAttribute("aria-sort") === first ? second : first;
    const sign = order === "ascending" ? 1 : -1;
    const rows = [...table.tBodies[0].rows].map((row) => {
      const text = row.cells[column].textContent.trim();
      return { row, key: isNumber ? amount(text) : text };
    });
    rows.sort((a, b) => sign * (isNumber ? a.key - b.key : byText(a.key, b.key)));
    table.tBodies[0].append(...rows.map(({ row }) => row));
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
  };
  const sortable = (table) => {
    for (const head of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(table, head));
      head.append(button);
    }
  };

  // The values of a plot or a bar, at once and on a touch screen too, in place of the browser's own hints. In plots over
  // time, a line marks the same moment in all of them.
  const readout = document.createElement("div");
  readout.className = "readout";
  readout.setAttribute("role", "status");
  const values = new WeakMap();
  // Recordings have times of their own: `among` is a plot of the one that is meant.
  const cursor = (x, among) => {
    for (const plot of document.querySelectorAll("svg.time")) {
      plot.querySelector(".cursor")?.remove();
      if (x === null || plot.closest("section") !== among.closest("section")) continue;
      const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
      line.setAttribute("class", "cursor");
      line.setAttribute("x1", x);
      line.setAttribute("x2", x);
      line.setAttribute("y1", 12);
      line.setAttribute("y2", plot.viewBox.baseVal.height - 40);
      plot.append(line);
    }
  };
  const hide = () => {
    readout.remove();
    cursor(null);
  };
  const show = (element) => {
    const says = values.get(element);
    if (says === undefined) return hide();
    readout.textContent = says;
    document.body.append(readout);
    const at = element.getBoundingClientRect();
    const [width, height] = [readout.offsetWidth, readout.offsetHeight];
    const page = document.documentElement;
    let [left, top] = [at.left + at.width / 2 - width / 2, at.top - height - 6];
    if (at.height > 2 * height) {
      // Beside a step of a plot, which is as high as the plot.
      left = at.right + width + 16 < page.clientWidth ? at.right + 12 : at.left - width - 12;
      top = at.top + 8;
    }
    left = Math.max(4, Math.min(left, page.clientWidth - width - 4));
    readout.style.left = `${left + window.scrollX}px`;
    readout.style.top = `${Math.max(top, 4) + window.scrollY}px`;
    // What is as wide as the plot is of no moment.
    const isTimed = element.ownerSVGElement.classList.contains("time") && !element.classList.contains("cold");
    cursor(isTimed ? element.x.baseVal.value + element.width.baseVal.value / 2 : null, element.ownerSVGElement);
  };
  document.addEventListener("pointerdown", (event) => event.target.closest("svg.plot, svg.bar") || hide());
  const readable = (svg) => {
    const elements = [];
    for (const title of svg.querySelectorAll("rect > title, line > title")) {
      values.set(title.parentElement, title.textContent);
      elements.push(title.parentElement);
      title.remove();
    }
    if (elements.length === 0) return;
    svg.addEventListener("pointermove", (event) => show(event.target));
    svg.addEventListener("pointerdown", (event) => show(event.target));
    // A finger covers what it points to: the values stay until it points elsewhere.
    svg.addEventListener("pointerleave", (event) => event.pointerType === "touch" || hide());
    svg.addEventListener("blur", hide);
    svg.tabIndex = 0;
    let at = -1;
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.key === "Escape") hide();
      if (step === undefined) return;
      event.preventDefault();
      at = Math.max(0, Math.min(elements.length - 1, at + step));
      show(elements[at]);
    });
  };

  const explore = () => {
    hide();
    document.querySelectorAll("table.sortable").forEach(sortable);
    document.querySelectorAll("svg.plot, svg.bar").forEach(readable);
  };
  explore();
  // A live page replaces its content.
  document.addEventListener("renewed", explore);
})();
