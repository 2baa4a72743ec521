"use strict";
// The gallery below the table, and the page of a crystal at #crystal-ID.
(() => {
  const overview = document.getElementById("overview");
  const article = document.getElementById("crystal");
  const content = document.getElementById("crystal-page");
  const gallery = document.getElementById("gallery");
  let leave = () => {};
  let scrolled = 0;

  const load = async (row) => (await parts.json(`crystals-${row.dataset.chunk}`))[row.dataset.id];
  const fill = (node, pictures) => node.querySelectorAll("[data-picture]").forEach((place) => {
    place.innerHTML = pictures[place.dataset.picture];
  });

  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      observer.unobserve(target);
      load(target.row).then((crystal) => {
        target.firstChild.innerHTML = crystal.card;
        fill(target, crystal.pictures);
      });
    }
  }, { rootMargin: "400px 0px" });
  table.onShow((rows) => {
    observer.disconnect();
    gallery.replaceChildren(...rows.filter((row) => row.dataset.chunk !== "").map((row) => {
      const item = document.createElement("li");
      const link = document.createElement("a");
      link.href = `#crystal-${row.dataset.id}`;
      link.textContent = row.dataset.id;
      link.style.minHeight = "240px";
      item.append(link);
      item.row = row;
      observer.observe(item);
      return item;
    }));
  });

  const look = async () => {
    const { styles, restored } = await parts.json("overview");
    const [bond, edge, link] = ["bond", "edge", "link"].map(figures.colour);
    return { styles, restored, bond, edge, link };
  };
  const connect = (panel, number, crystal) => {
    const view = crystal.views[number];
    const state = viewer.picker(panel, view);
    const turn = panel.querySelector("[data-turn]");
    const spin = panel.querySelector("[data-spin]");
    turn.addEventListener("click", async () => {
      if (state.live) viewer.turnOff(panel, state);
      else {
        await parts.plotly();
        await viewer.turnOn(panel, state, view, await look());
      }
      turn.setAttribute("aria-pressed", String(Boolean(state.live)));
      spin.hidden = !state.live;
      spin.setAttribute("aria-pressed", "false");
    });
    spin.addEventListener("click", () => {
      if (state.stop) { state.stop(); state.stop = null; } else state.stop = viewer.spin(state.live);
      spin.setAttribute("aria-pressed", String(Boolean(state.stop)));
    });
    const cif = panel.querySelector("[data-cif]");
    cif.addEventListener("click", () => parts.download(cif.dataset.name, "chemical/x-cif", crystal.cifs[number]));
    return () => { if (state.live) viewer.turnOff(panel, state); };
  };

  const steps = (id) => {
    const ids = table.ids();
    const at = ids.indexOf(id);
    article.querySelectorAll("[data-step]").forEach((link) => {
      const next = at < 0 ? undefined : ids[at + Number(link.dataset.step)];
      link.hidden = next === undefined;
      link.href = `#crystal-${next}`;
    });
  };
  const open = async (row) => {
    const crystal = await load(row);
    leave();
    if (article.hidden) scrolled = window.scrollY;
    content.innerHTML = crystal.page;
    fill(content, crystal.pictures);
    overview.hidden = true;
    article.hidden = false;
    steps(row.dataset.id);
    const ends = [...content.querySelectorAll(".minimum")].map((panel, number) => connect(panel, number, crystal));
    const strip = content.querySelector("[data-energies]");
    if (crystal.figure) figures.draw(strip, crystal.figure);
    leave = () => { ends.forEach((end) => end()); figures.forget(strip); leave = () => {}; };
    document.title = `${row.dataset.id} – xtalfill report`;
    window.scrollTo(0, 0);
    content.querySelector("h2").focus({ preventScroll: true });
  };
  const close = () => {
    if (article.hidden) return;
    leave();
    content.replaceChildren();
    article.hidden = true;
    overview.hidden = false;
    document.title = "xtalfill report";
    const target = document.getElementById(location.hash.slice(1));
    if (location.hash === "#structures" || !target) window.scrollTo({ top: scrolled, behavior: "instant" });
    else target.scrollIntoView();
  };
  const route = () => {
    const id = location.hash.startsWith("#crystal-") ? decodeURIComponent(location.hash.slice(9)) : "";
    const row = id && table.row(id);
    if (row && row.dataset.chunk !== "") open(row); else close();
  };
  window.addEventListener("hashchange", route);
  table.show(0);
  route();
})();
