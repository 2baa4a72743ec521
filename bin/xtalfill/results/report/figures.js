"use strict";
// Figures of Plotly in the colours of the page.
const figures = (() => {
  const drawn = new Map();
  // Resolves light-dark() and variables.
  const colour = (name) => {
    const probe = document.createElement("i");
    probe.style.color = `var(--${name})`;
    document.body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  };
  const themed = (layout) => {
    const [ink, line] = [colour("ink"), colour("line")];
    const axis = (old) => ({ ...old, gridcolor: line, linecolor: line, zerolinecolor: line });
    return { ...layout, font: { ...layout.font, color: ink }, xaxis: axis(layout.xaxis), yaxis: axis(layout.yaxis) };
  };
  const draw = async (node, figure) => {
    await parts.plotly();
    if (!node.isConnected) return;
    drawn.set(node, figure);
    Plotly.newPlot(node, figure.data, themed(structuredClone(figure.layout)), { responsive: true, displayModeBar: false });
  };
  const forget = (node) => {
    if (drawn.delete(node)) Plotly.purge(node);
  };
  const recolour = () => drawn.forEach((figure, node) => {
    if (node.isConnected) draw(node, figure); else drawn.delete(node);
  });

  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      observer.unobserve(target);
      parts.json("overview").then((content) => draw(target, content.figures[target.dataset.figure]));
    }
  }, { rootMargin: "300px 0px" });
  document.querySelectorAll("[data-figure]").forEach((node) => observer.observe(node));

  const themes = ["system", "light", "dark"];
  const button = document.getElementById("theme");
  button.addEventListener("click", () => {
    const next = themes[(themes.indexOf(document.documentElement.dataset.theme ?? "system") + 1) % 3];
    if (next === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    button.textContent = `Colours: ${next}`;
    recolour();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
  return { draw, forget, colour };
})();
