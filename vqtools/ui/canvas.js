// A layer over a picture: a brush that gives an area, frames to click, and a place where files are dropped.
const SIDE = 512;

function render({ model, el }) {
  const canvas = document.createElement("canvas");
  const ring = document.createElement("div");
  const mask = document.createElement("canvas");
  let last = null, own = null, drawing = 0;
  el.classList.add("vqtools-canvas");
  ring.className = "vqtools-ring";
  canvas.setAttribute("aria-label", "the picture, to draw on");
  el.append(canvas, ring);

  const resize = () => {
    const [width, height] = model.get("size");
    const scale = SIDE / Math.max(width, height);
    for (const one of [canvas, mask]) {
      one.width = Math.max(1, Math.round(width * scale));
      one.height = Math.max(1, Math.round(height * scale));
    }
    canvas.style.aspectRatio = width + " / " + height;
    canvas.style.width = width >= height ? "100%" : "auto";
    canvas.style.height = width >= height ? "auto" : "100%";
    load();
  };

  const paint = () => {
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
    if (own !== null && source === own) return paint();
    const pen = mask.getContext("2d");
    own = source;
    pen.globalCompositeOperation = "source-over";
    pen.clearRect(0, 0, mask.width, mask.height);
    if (!source) return paint();
    const picture = new Image();
    picture.onload = () => {
      if (own === source) { pen.drawImage(picture, 0, 0, mask.width, mask.height); paint(); }
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
    if (!drawing) drawing = requestAnimationFrame(() => { drawing = 0; paint(); });
  };

  const follow = (event) => {
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
  canvas.addEventListener("pointermove", (event) => { follow(event); if (last) draw(event); });
  canvas.addEventListener("pointerleave", () => { ring.style.display = "none"; });
  const lift = () => {
    if (!last) return;
    last = null;
    paint();
    own = mask.toDataURL("image/png");
    model.set("mask", own);
    model.save_changes();
  };
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);
  canvas.addEventListener("click", (event) => {
    if (!model.get("pick") || model.get("brush")) return;
    const [x, y] = at(event);
    model.send({ kind: "pick", x, y, extend: event.shiftKey || event.ctrlKey || event.metaKey });
  });

  const wake = () => {
    canvas.style.pointerEvents = model.get("brush") || model.get("pick") ? "auto" : "none";
    canvas.style.cursor = model.get("brush") ? "none" : "pointer";
    paint();
  };

  // a file may be dropped anywhere on the panel that this picture stands in
  const panel = (event) => event.target instanceof Element && event.target.closest(".vqtools-panel");
  const mine = (event) => {
    const found = panel(event);
    return found && found.contains(el) && [...event.dataTransfer.types].includes("Files") ? found : null;
  };
  const over = (event) => {
    const found = mine(event);
    document.querySelectorAll(".vqtools-over").forEach((one) => one.classList.remove("vqtools-over"));
    if (!found) return;
    event.preventDefault();
    event.stopPropagation();
    found.classList.add("vqtools-over");
  };
  const leave = (event) => { if (!event.relatedTarget) over(event); };
  const drop = async (event) => {
    const found = mine(event);
    if (!found) return;
    event.preventDefault();
    event.stopPropagation();
    found.classList.remove("vqtools-over");
    const file = event.dataTransfer.files[0];
    if (!file) return;
    if (file.size > model.get("max_bytes")) model.send({ kind: "large", name: file.name });
    else model.send({ kind: "drop", name: file.name }, undefined, [await file.arrayBuffer()]);
  };
  const heard = { dragover: over, dragleave: leave, drop };
  for (const [name, act] of Object.entries(heard)) document.addEventListener(name, act, true);

  model.on("change:size", resize);
  model.on("change:mask", load);
  model.on("change:brush change:pick", wake);
  model.on("change:tint change:frames", paint);
  resize();
  wake();
  return () => {
    for (const [name, act] of Object.entries(heard)) document.removeEventListener(name, act, true);
  };
}

export default { render };
