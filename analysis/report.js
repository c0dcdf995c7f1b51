"use strict";
(() => {
  const page = JSON.parse(document.getElementById("figures").textContent);
  const shown = (element) => element.getClientRects().length > 0;

  // A fresh copy each time: Vega writes into the rows that it is given.
  function rows(name) {
    const columns = Object.entries(page.data[name]);
    const length = columns.length ? columns[0][1].length : 0;
    return Array.from({ length }, (_, place) => Object.fromEntries(columns.map(([key, values]) => [key, values[place]])));
  }

  async function draw(plot) {
    const { data, spec } = page.charts[plot.dataset.chart];
    plot.dataset.drawn = "";
    await window.vegaEmbed(
      plot,
      {
        ...spec,
        width: "container",
        autosize: { type: "fit-x", contains: "padding" },
        data: { values: rows(data) },
        config: { ...page.config, axisY: { ...page.config.axisY, labelLimit: Math.max(110, 0.4 * plot.clientWidth) } },
      },
      {
        mode: "vega-lite",
        renderer: "svg",
        actions: false,
        defaultStyle: false,
        ast: true,
        tooltip: { theme: "page", disableDefaultStyle: true },
      },
    );
  }

  // One after another, so that the page can be read and scrolled meanwhile; what is hidden waits until it is shown.
  let drawing = Promise.resolve();
  function drawShown() {
    drawing = drawing.then(async () => {
      delete document.documentElement.dataset.drawn;
      for (const plot of document.querySelectorAll(".plot:not([data-drawn])")) {
        if (!shown(plot)) continue;
        try {
          await draw(plot);
        } catch (error) {
          plot.textContent = "This chart could not be drawn.";
          console.error(error);
        }
        await new Promise((resolve) => setTimeout(resolve));
      }
      document.documentElement.dataset.drawn = "";
    });
  }

  const quoted = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  function csv(name) {
    const columns = Object.entries(page.data[name]);
    const lines = [columns.map(([key]) => key)];
    columns[0][1].forEach((_, place) => lines.push(columns.map(([, values]) => values[place] ?? "")));
    return lines.map((line) => line.map((value) => quoted(String(value))).join(",") + "\r\n").join("");
  }
  for (const link of document.querySelectorAll("a[data-csv]")) {
    link.addEventListener("click", () => {
      const blob = new Blob([csv(page.charts[link.dataset.csv].data)], { type: "text/csv;charset=utf-8" });
      link.href = URL.createObjectURL(blob);
      setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    });
  }

  const words = new Intl.Collator("en", { numeric: true });
  function sort(table, place, descending) {
    const body = table.tBodies[0];
    const keyed = Array.from(body.rows, (row) => {
      const { dataset, textContent } = row.cells[place];
      return { row, number: "value" in dataset ? Number(dataset.value || "NaN") : null, text: textContent };
    });
    const missing = ({ number, text }) => (number === null ? text === "–" : Number.isNaN(number));
    keyed.sort((a, b) => {
      if (missing(a) || missing(b)) return missing(a) - missing(b);
      const order = a.number === null || b.number === null ? words.compare(a.text, b.text) : a.number - b.number;
      return descending ? -order : order;
    });
    body.append(...keyed.map(({ row }) => row));
  }
  for (const table of document.querySelectorAll("table.sortable")) {
    if (table.tBodies[0].rows.length < 2) continue;
    const heads = Array.from(table.tHead.rows[table.tHead.rows.length - 1].cells);
    heads.forEach((head, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const descending = head.ariaSort === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", descending ? "descending" : "ascending");
        sort(table, place, descending);
      });
    });
  }

  for (const choice of document.querySelectorAll(".choice")) {
    const options = Array.from(choice.children).filter((child) => child.matches(".option"));
    const label = document.createElement("label");
    const select = document.createElement("select");
    select.append(...options.map((option) => new Option(option.dataset.name)));
    label.append(choice.dataset.label, " ", select);
    choice.prepend(label);
    choice.classList.add("chosen");
    const choose = () => {
      options.forEach((option, place) => (option.hidden = place !== select.selectedIndex));
      drawShown();
    };
    select.addEventListener("change", choose);
    choose();
  }
  document.addEventListener("toggle", drawShown, true);
  drawShown();
})();
