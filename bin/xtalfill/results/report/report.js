"use strict";
(() => {
  const payload = JSON.parse(document.getElementById("payload").textContent);
  const config = { displaylogo: false, responsive: true, modeBarButtons: [["toImage", "resetCameraDefault3d"]] };
  const axis = { visible: false, showspikes: false };
  const sceneLayout = {
    margin: { l: 0, r: 0, t: 0, b: 0 },
    paper_bgcolor: "rgba(0,0,0,0)",
    modebar: { bgcolor: "rgba(0,0,0,0)", color: "#adb5bd", activecolor: "#495057" },
    legend: { orientation: "h", y: 0, x: 0.5, xanchor: "center", font: { size: 12 }, itemsizing: "constant" },
    scene: {
      aspectmode: "manual", xaxis: axis, yaxis: axis, zaxis: axis,
      camera: { eye: { x: 0.55, y: -1.5, z: 0.45 } },
    },
  };

  const drawFigure = (node) => {
    const figure = payload.figures[node.dataset.figure];
    Plotly.newPlot(node, figure.data, figure.layout, { ...config, displayModeBar: false });
  };

  // A browser has about 16 WebGL contexts: a view exists only while it is visible. Its camera is
  // kept for the next time.
  const cameras = new Map();
  // Proportions of the cell, and the same size on the screen for all cells.
  const proportions = (traces) => {
    const extent = ["x", "y", "z"].map((name) => {
      const values = traces.flatMap((trace) => trace[name]).filter((value) => value !== null);
      return Math.max(Math.max(...values) - Math.min(...values), 0.01);
    });
    const scale = 1.35 / Math.hypot(...extent);
    return { x: scale * extent[0], y: scale * extent[1], z: scale * extent[2] };
  };
  const showView = (node) => {
    const traces = payload.views[node.dataset.view];
    if (!traces || node.dataset.live) return;
    node.dataset.live = "yes";
    node.textContent = "";
    const layout = structuredClone(sceneLayout);
    layout.scene.aspectratio = proportions(traces);
    layout.scene.camera = cameras.get(node.dataset.view) ?? layout.scene.camera;
    Plotly.newPlot(node, traces, layout, { ...config, displayModeBar: "hover" }).catch(() => {
      node.textContent = "This browser shows no WebGL; open the CIF file instead.";
    });
  };
  const hideView = (node) => {
    if (!node.dataset.live) return;
    cameras.set(node.dataset.view, node._fullLayout?.scene?._scene?.getCamera?.());
    Plotly.purge(node);
    delete node.dataset.live;
    node.textContent = "3-D view";
  };

  const watch = (selector, enter, leave, margin) => {
    const observer = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (entry.isIntersecting) {
          enter(entry.target);
          if (!leave) observer.unobserve(entry.target);
        } else if (leave) leave(entry.target);
      }
    }, { rootMargin: margin });
    document.querySelectorAll(selector).forEach((node) => observer.observe(node));
  };
  watch("[data-figure]", drawFigure, null, "400px 0px");
  watch("[data-view]", showView, hideView, "100px 0px");

  const cellValue = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  const sortTable = (table, column, header) => {
    const ascending = header.getAttribute("aria-sort") !== "ascending";
    table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const rank = (text) => (text === "" || text === "–" ? null : text);
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => {
      const [x, y] = [rank(cellValue(a, column)), rank(cellValue(b, column))];
      if (x === null || y === null) return (x === null) - (y === null);
      const order = isNaN(x) || isNaN(y) ? x.localeCompare(y, undefined, { numeric: true }) : x - y;
      return ascending ? order : -order;
    });
    table.tBodies[0].append(...rows);
  };
  document.querySelectorAll("table.sortable").forEach((table) => {
    table.querySelectorAll("th").forEach((header, column) => {
      header.addEventListener("click", () => sortTable(table, column, header));
    });
  });
})();
