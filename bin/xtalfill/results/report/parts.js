"use strict";
// The parts of the page that are packed: gzip in base64, unpacked when they are needed.
const parts = (() => {
  const known = new Map();
  const unpack = async (name) => {
    const packed = document.getElementById(`part-${name}`).textContent;
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  };
  const keep = (name, make) => {
    if (!known.has(name)) known.set(name, make());
    return known.get(name);
  };
  const json = (name) => keep(name, async () => JSON.parse(await unpack(name)));
  // Plotly is large: it is run only where a figure or a 3-D view is shown.
  const plotly = () => keep("plotly", async () => {
    const script = document.createElement("script");
    script.textContent = await unpack("plotly");
    document.head.append(script);
  });
  const download = (name, type, text) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  };
  return { json, plotly, download };
})();
