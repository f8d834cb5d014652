// A canvas over a picture: a brush that draws an area, frames to click, and a target for dropped files.
const SIDE = 512;

function render({ model, el }) {
  const canvas = document.createElement("canvas");
  const ring = document.createElement("div");
  const mask = document.createElement("canvas");
  let last = null, shown = null, drawing = 0;
  el.classList.add("vqtools-canvas");
  ring.className = "vqtools-ring";
  canvas.setAttribute("aria-label", "the picture, to draw on");
  el.append(canvas, ring);

  const resize = () => {
    const [width, height] = model.get("size");
    const scale = SIDE / Math.max(width, height);
    for (const surface of [canvas, mask]) {
      surface.width = Math.max(1, Math.round(width * scale));
      surface.height = Math.max(1, Math.round(height * scale));
    }
    canvas.style.aspectRatio = width + " / " + height;
    canvas.style.width = width >= height ? "100%" : "auto";
    canvas.style.height = width >= height ? "auto" : "100%";
    load();
  };

  const redraw = () => {
    const pen = canvas.getContext("2d");
    pen.globalCompositeOperation = "source-over";
    pen.clearRect(0, 0, canvas.width, canvas.height);
    if (model.get("brush")) {
      pen.drawImage(mask, 0, 0);
      pen.globalCompositeOperation = "source-in";
      pen.globalAlpha = 0.5;
      pen.fillStyle = model.get("tint");
      pen.fillRect(0, 0, canvas.width, canvas.height);
      pen.globalAlpha = 1;
      pen.globalCompositeOperation = "source-over";
    }
    pen.lineWidth = 4;
    model.get("frames").forEach(([left, top, right, bottom], index) => {
      pen.strokeStyle = index ? "#2a9d8f" : model.get("tint");
      pen.strokeRect(left * canvas.width, top * canvas.height,
                     (right - left) * canvas.width, (bottom - top) * canvas.height);
    });
  };

  const load = () => {
    const source = model.get("mask");
    if (shown !== null && source === shown) return redraw();
    const pen = mask.getContext("2d");
    shown = source;
    pen.globalCompositeOperation = "source-over";
    pen.clearRect(0, 0, mask.width, mask.height);
    if (!source) return redraw();
    const picture = new Image();
    picture.onload = () => {
      if (shown === source) { pen.drawImage(picture, 0, 0, mask.width, mask.height); redraw(); }
    };
    picture.src = source;
  };

  const at = (event) => {
    const area = canvas.getBoundingClientRect();
    return [(event.clientX - area.left) / area.width, (event.clientY - area.top) / area.height];
  };

  const draw = (event) => {
    const [x, y] = at(event), pen = mask.getContext("2d");
    const [fromX, fromY] = last || [x, y];
    pen.globalCompositeOperation = model.get("erase") ? "destination-out" : "source-over";
    pen.strokeStyle = "white";
    pen.lineCap = pen.lineJoin = "round";
    pen.lineWidth = 2 * model.get("radius") * SIDE;
    pen.beginPath();
    pen.moveTo(fromX * mask.width, fromY * mask.height);
    pen.lineTo(x * mask.width + 0.01, y * mask.height);
    pen.stroke();
    last = [x, y];
    if (!drawing) drawing = requestAnimationFrame(() => { drawing = 0; redraw(); });
  };

  const moveRing = (event) => {
    const area = canvas.getBoundingClientRect(), around = el.getBoundingClientRect();
    const side = 2 * model.get("radius") * Math.max(area.width, area.height);
    Object.assign(ring.style, { display: model.get("brush") ? "block" : "none", width: side + "px",
      height: side + "px", left: event.clientX - around.left - side / 2 + "px",
      top: event.clientY - around.top - side / 2 + "px" });
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (!model.get("brush") || event.button) return;
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    last = null;
    draw(event);
  });
  canvas.addEventListener("pointermove", (event) => { moveRing(event); if (last) draw(event); });
  canvas.addEventListener("pointerleave", () => { ring.style.display = "none"; });
  const endStroke = () => {
    if (!last) return;
    last = null;
    redraw();
    shown = mask.toDataURL("image/png");
    model.set("mask", shown);
    model.save_changes();
  };
  canvas.addEventListener("pointerup", endStroke);
  canvas.addEventListener("pointercancel", endStroke);
  canvas.addEventListener("click", (event) => {
    if (!model.get("pick") || model.get("brush")) return;
    const [x, y] = at(event);
    model.send({ kind: "pick", x, y, extend: event.shiftKey || event.ctrlKey || event.metaKey });
  });

  const updatePointer = () => {
    canvas.style.pointerEvents = model.get("brush") || model.get("pick") ? "auto" : "none";
    canvas.style.cursor = model.get("brush") ? "none" : "pointer";
    redraw();
  };

  // a file may be dropped anywhere on the panel that this picture stands in
  const panel = (event) => event.target instanceof Element && event.target.closest(".vqtools-panel");
  const targetPanel = (event) => {
    const target = panel(event);
    return target && target.contains(el) && [...event.dataTransfer.types].includes("Files") ? target : null;
  };
  const over = (event) => {
    const target = targetPanel(event);
    document.querySelectorAll(".vqtools-over").forEach((element) => element.classList.remove("vqtools-over"));
    if (!target) return;
    event.preventDefault();
    event.stopPropagation();
    target.classList.add("vqtools-over");
  };
  const leave = (event) => { if (!event.relatedTarget) over(event); };
  const drop = async (event) => {
    const target = targetPanel(event);
    if (!target) return;
    event.preventDefault();
    event.stopPropagation();
    target.classList.remove("vqtools-over");
    const file = event.dataTransfer.files[0];
    if (!file) return;
    if (file.size > model.get("max_bytes")) model.send({ kind: "large", name: file.name });
    else model.send({ kind: "drop", name: file.name }, undefined, [await file.arrayBuffer()]);
  };
  const listeners = { dragover: over, dragleave: leave, drop };
  for (const [name, act] of Object.entries(listeners)) document.addEventListener(name, act, true);

  model.on("change:size", resize);
  model.on("change:mask", load);
  model.on("change:brush change:pick", updatePointer);
  model.on("change:tint change:frames", redraw);
  resize();
  updatePointer();
  return () => {
    for (const [name, act] of Object.entries(listeners)) document.removeEventListener(name, act, true);
  };
}

export default { render };
