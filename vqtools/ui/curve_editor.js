// One curve of an animation, large: drag its points, double-click to add or remove one.
const W = 560, H = 170, M = 26, NS = "http://www.w3.org/2000/svg";
function render({ model, el }) {
  const svg = document.createElementNS(NS, "svg");
  svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
  svg.setAttribute("class", "vqtools-large");
  svg.setAttribute("role", "img");
  const append = (name, attributes, text) => {
    const element = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    svg.append(element);
    return element;
  };
  const x = (frame) => M + frame / Math.max(1, model.get("last")) * (W - 2 * M);
  const y = (value) => { const [a, b] = model.get("span"); return H - M - (value - a) / (b - a) * (H - 2 * M); };
  const valueAt = (event) => {
    const area = svg.getBoundingClientRect(), [a, b] = model.get("span"), last = model.get("last");
    const px = (event.clientX - area.left) / area.width * W, py = (event.clientY - area.top) / area.height * H;
    const frame = Math.round((px - M) / (W - 2 * M) * last);
    return [Math.min(last, Math.max(0, frame)), a + (H - M - py) / (H - 2 * M) * (b - a)];
  };
  const request = (kind, index, place) => {
    model.set("edit_request", [kind, index, ...place, Date.now()]);
    model.save_changes();
  };
  const draw = () => {
    svg.replaceChildren();
    const [a, b] = model.get("span"), short = (value) => String(+value.toPrecision(3));
    for (const value of [a, b]) {
      append("line", { x1: M, x2: W - M, y1: y(value), y2: y(value), class: "vqtools-rule" });
      append("text", { x: M, y: y(value) + (value === b ? -6 : 16) }, short(value));
    }
    append("text", { x: W - M, y: H - M + 16, "text-anchor": "end" }, "frame " + model.get("last"));
    const line = model.get("line").map(([frame, value]) => `${x(frame)},${y(value)}`).join(" ");
    append("polyline", { points: line, class: "vqtools-drawn" });
    model.get("points").forEach(([frame, value, free], index) => {
      const dot = append("circle", { cx: x(frame), cy: y(value), r: free ? 6 : 3.5, class: free ? "vqtools-dot" : "" });
      dot.append(Object.assign(document.createElementNS(NS, "title"),
                               { textContent: `frame ${frame}: ${short(value)}` + (free ? "" : ", a formula") }));
      if (!free) return;
      dot.addEventListener("pointerdown", (event) => {
        event.preventDefault(); event.stopPropagation();
        dot.setPointerCapture(event.pointerId);
        const move = (at) => {
          const [frame, value] = valueAt(at);
          dot.setAttribute("cx", x(frame)); dot.setAttribute("cy", y(value));
        };
        dot.addEventListener("pointermove", move);
        dot.addEventListener("pointerup", (at) => {
          dot.removeEventListener("pointermove", move);
          if (Math.hypot(at.clientX - event.clientX, at.clientY - event.clientY) > 2) request("move", index, valueAt(at));
        }, { once: true });
      });
      dot.addEventListener("dblclick", (event) => { event.stopPropagation(); request("remove", index, [frame, value]); });
    });
  };
  svg.addEventListener("dblclick", (event) => request("add", -1, valueAt(event)));
  for (const name of ["line", "points", "span", "last"]) model.on(`change:${name}`, draw);
  draw();
  el.append(svg);
}
export default { render };
