"""A picture whose cells can be clicked: what no stock widget does, and two sliders that do the same.

Knows a picture, rows and columns; nothing about what a cell stands for.
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets
import traitlets
from PIL import Image
from torch import Tensor

from vqtools.illustrated.controls import interactive_figure, slider
from vqtools.illustrated.style import to_png

WIDGET_SCRIPT = """
function render({ model, el }) {
  const box = document.createElement("div"), picture = document.createElement("img");
  const frame = document.createElement("div");
  box.style.cssText = "position:relative;display:inline-block;cursor:crosshair;line-height:0";
  picture.style.cssText = "image-rendering:pixelated;display:block;max-width:100%";
  picture.alt = "click a cell";
  frame.style.cssText = "position:absolute;box-sizing:border-box;pointer-events:none;border:2px solid #d1495b;" +
    "outline:1px solid white";
  const place = () => {
    const [row, column] = model.get("cell");
    const height = 100 / model.get("rows"), width = 100 / model.get("columns");
    Object.assign(frame.style, { top: row * height + "%", left: column * width + "%",
                                 height: height + "%", width: width + "%" });
  };
  const load = () => { picture.src = model.get("source"); picture.width = model.get("width"); };
  picture.addEventListener("click", (event) => {
    const area = picture.getBoundingClientRect();
    const at = (share, count) => Math.min(count - 1, Math.max(0, Math.floor(share * count)));
    model.set("cell", [at((event.clientY - area.top) / area.height, model.get("rows")),
                       at((event.clientX - area.left) / area.width, model.get("columns"))]);
    model.save_changes();
  });
  model.on("change:cell", place);
  model.on("change:source", load);
  load(); place();
  box.append(picture, frame);
  el.append(box);
}
export default { render };
"""


@functools.cache
def _widget_class() -> Any:
    """The widget's class; None where anywidget is not installed."""
    try:
        import anywidget
    except ImportError:
        return None

    class Picture(anywidget.AnyWidget):
        _esm = WIDGET_SCRIPT
        source = traitlets.Unicode().tag(sync=True)
        rows = traitlets.Int().tag(sync=True)
        columns = traitlets.Int().tag(sync=True)
        width = traitlets.Int().tag(sync=True)
        cell = traitlets.List([0, 0]).tag(sync=True)

    return Picture


def clickable_picture(picture: Image.Image | Tensor, rows: int, columns: int, width: int) -> Any:
    """The picture as a widget with a trait ``cell`` [row, column]; None where anywidget is not installed."""
    kind = _widget_class()
    if kind is None:
        return None
    source = "data:image/png;base64," + base64.b64encode(to_png(picture)).decode()
    return kind(source=source, rows=rows, columns=columns, width=width)


def pick_cell(
    draw: Callable[..., Any],
    picture: Image.Image | Tensor,
    rows: int,
    columns: int,
    start: tuple[int, int],
    *,
    width: int = 288,
    **controls: widgets.Widget,
) -> widgets.VBox:
    """A picture to click beside a drawing that follows: ``draw(row=…, column=…)``, and of further controls.

    Two sliders say and set the same cell: by keyboard, and where clicks don't arrive.
    """
    row, column = slider("row", 0, rows - 1, start[0]), slider("column", 0, columns - 1, start[1])
    box = interactive_figure(draw, row=row, column=column, **controls)
    surface = clickable_picture(picture, rows, columns, width)
    if surface is None:
        return box
    surface.cell = list(start)

    def clicked(change: Any) -> None:
        with surface.hold_trait_notifications():  # the sliders answer one after the other
            row.value, column.value = change["new"]

    def moved(_: Any) -> None:
        if [row.value, column.value] != surface.cell:
            surface.cell = [row.value, column.value]

    surface.observe(clicked, "cell")
    row.observe(moved, "value")
    column.observe(moved, "value")
    box.children = [widgets.HBox([surface, widgets.VBox(box.children[:-1])]), box.children[-1]]
    box.surface = surface
    return box
