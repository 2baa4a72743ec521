"use strict";
// A crystal in 3-D: spheres, bonds, cell. The eye is that of picture.py.
const viewer = (() => {
  const EYE = { x: 0.55, y: -1.5, z: 0.45 };
  const LARGER = 1.25;
  const STICK = 0.09; // Angstrom
  const FILLED = 2.3; // the diagonal of a crystal, in units of Plotly
  const RING = 0.48; // Angstrom; around a site of the reference
  const STEADY = 4; // pixels; a mouse that moves farther turns the crystal
  const LIGHT = { ambient: 0.7, diffuse: 0.5, specular: 0.25, roughness: 0.5, fresnel: 0.1 };

  // Icosahedron, each triangle divided twice in four: 162 corners.
  const sphere = (() => {
    const t = (1 + Math.sqrt(5)) / 2;
    const corners = [[-1, t, 0], [1, t, 0], [-1, -t, 0], [1, -t, 0], [0, -1, t], [0, 1, t],
      [0, -1, -t], [0, 1, -t], [t, 0, -1], [t, 0, 1], [-t, 0, -1], [-t, 0, 1]];
    let faces = [[0, 11, 5], [0, 5, 1], [0, 1, 7], [0, 7, 10], [0, 10, 11], [1, 5, 9], [5, 11, 4],
      [11, 10, 2], [10, 7, 6], [7, 1, 8], [3, 9, 4], [3, 4, 2], [3, 2, 6], [3, 6, 8], [3, 8, 9],
      [4, 9, 5], [2, 4, 11], [6, 2, 10], [8, 6, 7], [9, 8, 1]];
    for (let level = 0; level < 2; level += 1) {
      const middle = new Map();
      const between = (a, b) => {
        const key = Math.min(a, b) * 1000 + Math.max(a, b);
        if (!middle.has(key)) {
          middle.set(key, corners.push(corners[a].map((value, i) => value + corners[b][i])) - 1);
          const last = corners[corners.length - 1];
          const scale = Math.hypot(...corners[0]) / Math.hypot(...last);
          corners[corners.length - 1] = last.map((value) => value * scale);
        }
        return middle.get(key);
      };
      faces = faces.flatMap(([a, b, c]) => {
        const [x, y, z] = [between(a, b), between(b, c), between(c, a)];
        return [[a, x, z], [b, y, x], [c, z, y], [x, y, z]];
      });
    }
    return { corners: corners.map((one) => one.map((v) => v / Math.hypot(...one))), faces };
  })();

  const points = (flat) => Array.from({ length: flat.length / 3 }, (_, i) =>
    [flat[3 * i] / 1000, flat[3 * i + 1] / 1000, flat[3 * i + 2] / 1000]);
  const columns = (list) => ({ x: list.map((p) => p[0]), y: list.map((p) => p[1]), z: list.map((p) => p[2]) });
  const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  const unit = (a) => a.map((value) => value / Math.hypot(...a));
  const mesh = (corners, faces, colour, more) => ({
    type: "mesh3d", color: colour, lighting: LIGHT, flatshading: false, ...columns(corners),
    i: faces.map((f) => f[0]), j: faces.map((f) => f[1]), k: faces.map((f) => f[2]), ...more,
  });

  const balloons = (at, which, colour, radius) => {
    const corners = [], faces = [];
    for (const drawn of which) {
      const first = corners.length;
      for (const c of sphere.corners) corners.push(c.map((v, axis) => at[drawn][axis] + radius * v));
      for (const f of sphere.faces) faces.push(f.map((corner) => first + corner));
    }
    return mesh(corners, faces, colour, {});
  };
  const spheres = (view, at, which, colour, radius) => {
    const text = which.flatMap((drawn) => sphere.corners.map(() => view.labels[view.index[drawn]]));
    return { ...balloons(at, which, colour, radius), text, hoverinfo: "text", meta: which };
  };

  const sticks = (view, at, colour) => {
    const corners = [], faces = [];
    for (let bond = 0; bond < view.bonds.length; bond += 2) {
      const [start, end] = [at[view.bonds[bond]], at[view.bonds[bond + 1]]];
      const along = unit(end.map((v, axis) => v - start[axis]));
      const side = unit(cross(along, Math.abs(along[2]) < 0.9 ? [0, 0, 1] : [1, 0, 0]));
      const other = cross(along, side);
      const first = corners.length;
      for (let n = 0; n < 8; n += 1) {
        const [c, s] = [Math.cos((n * Math.PI) / 4), Math.sin((n * Math.PI) / 4)];
        const away = side.map((v, axis) => STICK * (c * v + s * other[axis]));
        corners.push(start.map((v, axis) => v + away[axis]), end.map((v, axis) => v + away[axis]));
        const [a, b] = [first + 2 * n, first + 2 * ((n + 1) % 8)];
        faces.push([a, a + 1, b], [b, a + 1, b + 1]);
      }
    }
    return mesh(corners, faces, colour, { hoverinfo: "skip" });
  };

  const lines = (segments, colour, more) => ({
    type: "scatter3d", mode: "lines", hoverinfo: "skip", line: { color: colour, width: 3 },
    ...columns(segments.flatMap(([a, b]) => [a, b, [null, null, null]])), ...more,
  });
  const cell = (vectors, colour) => {
    const sum = (n) => [0, 1, 2].map((axis) => vectors.reduce((s, v, i) => s + ((n >> i) & 1) * v[axis], 0));
    const edges = [];
    for (let n = 0; n < 8; n += 1) {
      for (let i = 0; i < 3; i += 1) if (!((n >> i) & 1)) edges.push([sum(n), sum(n | (1 << i))]);
    }
    const ends = vectors.map((v) => v.map((value) => value * (1 + 0.6 / Math.hypot(...v))));
    const names = { type: "scatter3d", mode: "text", text: ["a", "b", "c"], hoverinfo: "skip",
      textfont: { color: colour, size: 14 }, ...columns(ends) };
    return [lines(edges, colour), names];
  };

  const traces = (view, look) => {
    const at = points(view.positions);
    const restored = new Set(view.restored);
    const groups = new Map();
    view.index.forEach((atom, drawn) => {
      const key = `${view.labels[atom].replace(/\d+$/, "")} ${restored.has(atom)}`;
      groups.set(key, [...(groups.get(key) ?? []), drawn]);
    });
    const balls = [...groups].map(([key, which]) => {
      const [element, isNew] = key.split(" ");
      const { colour, radius } = look.styles[element];
      return isNew === "true"
        ? spheres(view, at, which, look.restored, LARGER * radius)
        : spheres(view, at, which, colour, radius);
    });
    const sites = points(view.reference);
    const halo = { opacity: 0.25, hoverinfo: "skip", meta: null };
    const reference = sites.length
      ? [{ ...balloons(sites, sites.map((_, n) => n), look.link, RING), ...halo }] : [];
    const picked = lines([], look.link, { line: { color: look.link, width: 6 } });
    return [...balls, sticks(view, at, look.bond), ...cell(points(view.cell), look.edge), ...reference, picked];
  };

  // Proportions of the crystal, and the same size on the screen for all crystals.
  const proportions = (data) => {
    const extent = ["x", "y", "z"].map((name) => {
      const values = data.flatMap((trace) => trace[name]).filter((value) => value !== null);
      return Math.max(values.reduce((a, b) => Math.max(a, b)) - values.reduce((a, b) => Math.min(a, b)), 0.01);
    });
    const [x, y, z] = extent.map((value) => (FILLED * value) / Math.hypot(...extent));
    return { x, y, z };
  };

  // Shows a view in a node; calls onPick with the number of the sphere that is clicked.
  const show = async (node, view, look, onPick) => {
    const data = traces(view, look);
    const axis = { visible: false, showspikes: false };
    const layout = {
      margin: { l: 0, r: 0, t: 0, b: 0 }, paper_bgcolor: "rgba(0,0,0,0)", showlegend: false,
      hoverlabel: { font: { size: 13 } },
      scene: { aspectmode: "manual", aspectratio: proportions(data), xaxis: axis, yaxis: axis, zaxis: axis, dragmode: "orbit",
        camera: { eye: { ...EYE }, projection: { type: "orthographic" } } },
    };
    await Plotly.newPlot(node, data, layout, { displaylogo: false, responsive: true, displayModeBar: false });
    let hovered = null;
    let down = null;
    const over = ({ points: [hit] }) => { hovered = data[hit.curveNumber].meta ? hit : null; };
    node.on("plotly_hover", over);
    node.on("plotly_click", over);
    node.on("plotly_unhover", () => { hovered = null; });
    node.addEventListener("pointerdown", (event) => { down = event; }, true);
    node.addEventListener("pointerup", (event) => {
      const moved = down ? Math.hypot(event.clientX - down.clientX, event.clientY - down.clientY) : Infinity;
      if (!hovered || moved > STEADY) return;
      const drawn = data[hovered.curveNumber].meta[Math.floor(hovered.pointNumber / sphere.corners.length)];
      onPick(drawn);
    }, true);
  };
  const mark = (node, view, drawn) => {
    const at = points(view.positions);
    const { x, y, z } = columns(drawn.map((one) => at[one]));
    Plotly.restyle(node, { x: [x], y: [y], z: [z] }, [node.data.length - 1]);
  };
  // Turns about the vertical; returns the function that stops it.
  const spin = (node) => {
    let running = true;
    const step = async () => {
      if (!running || !node.isConnected) return;
      const camera = node._fullLayout.scene._scene.getCamera();
      const { x, y } = camera.eye;
      camera.eye = { x: x * Math.cos(0.02) - y * Math.sin(0.02), y: x * Math.sin(0.02) + y * Math.cos(0.02), z: camera.eye.z };
      await Plotly.relayout(node, { "scene.camera": camera });
      requestAnimationFrame(step);
    };
    step();
    return () => { running = false; };
  };
  const distance = (view, first, second) => {
    const at = points(view.positions);
    const length = Math.hypot(...at[first].map((v, axis) => v - at[second][axis]));
    return `${view.labels[view.index[first]]} – ${view.labels[view.index[second]]}: ${length.toFixed(3)} Å`;
  };

  // Distances by two clicks, in the picture of a panel or in its 3-D view.
  const picker = (panel, view) => {
    const told = panel.querySelector("output");
    const state = { picks: [], live: null, stop: null };
    const circles = panel.querySelectorAll("[data-atom]");
    state.pick = (drawn) => {
      state.picks = [...state.picks.slice(-1), drawn];
      circles.forEach((circle) => {
        circle.classList.toggle("picked", state.picks.includes(Number(circle.dataset.atom)));
      });
      if (state.live) mark(state.live, view, state.picks);
      told.textContent = state.picks.length === 2
        ? distance(view, ...state.picks)
        : `${view.labels[view.index[drawn]]} chosen; click another atom.`;
    };
    circles.forEach((circle) => {
      circle.addEventListener("click", () => state.pick(Number(circle.dataset.atom)));
    });
    return state;
  };
  let webgl = null;
  const hasWebGL = () => {
    webgl ??= Boolean(document.createElement("canvas").getContext("webgl"));
    return webgl;
  };
  // Puts the 3-D view over the picture of a panel; the picture stays without WebGL.
  const turnOn = async (panel, state, view, look) => {
    if (!hasWebGL()) {
      panel.querySelector("output").textContent = "This browser shows no WebGL; the picture stays.";
      return;
    }
    const live = document.createElement("div");
    live.className = "live";
    live.setAttribute("role", "img");
    live.setAttribute("aria-label", panel.querySelector("svg.crystal").getAttribute("aria-label"));
    panel.querySelector(".view").append(live);
    await show(live, view, look, state.pick);
    if (!live.isConnected) return; // the page of the crystal was left meanwhile
    state.live = live;
    panel.querySelector(".picture").hidden = true;
  };
  const turnOff = (panel, state) => {
    state.stop?.();
    Plotly.purge(state.live);
    state.live.remove();
    state.live = state.stop = null;
    panel.querySelector(".picture").hidden = false;
  };
  // The page of a single crystal, as for a notebook.
  const frame = (page, look) => {
    const view = JSON.parse(page.querySelector('script[type="application/json"]').textContent);
    turnOn(page, picker(page, view), view, look);
  };
  return { picker, turnOn, turnOff, spin, frame };
})();
