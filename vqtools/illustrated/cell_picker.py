"""A widget to pick a cell of a picture by clicking it, and two sliders for the same row and column.

Knows a picture and its rows and columns; nothing about what a cell stands for. Needs anywidget for clicks; without it
only the sliders are shown.
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
    const index = (fraction, count) => Math.min(count - 1, Math.max(0, Math.floor(fraction * count)));
    model.set("cell", [index((event.clientY - area.top) / area.height, model.get("rows")),
                       index((event.clientX - area.left) / area.width, model.get("columns"))]);
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
    """Return the widget's class, or None if anywidget is not installed."""
    try:
        import anywidget
    except ImportError:
        return None

    class ClickablePicture(anywidget.AnyWidget):
        _esm = WIDGET_SCRIPT
        source = traitlets.Unicode().tag(sync=True)
        rows = traitlets.Int().tag(sync=True)
        columns = traitlets.Int().tag(sync=True)
        width = traitlets.Int().tag(sync=True)
        cell = traitlets.List([0, 0]).tag(sync=True)

    return ClickablePicture


def clickable_picture(picture: Image.Image | Tensor, rows: int, columns: int, width: int) -> Any:
    """Return a widget whose trait ``cell`` is the clicked [row, column], or None if anywidget is not installed.

    ``width`` is in CSS pixels.
    """
    widget_class = _widget_class()
    if widget_class is None:
        return None
    source = "data:image/png;base64," + base64.b64encode(to_png(picture)).decode()
    return widget_class(source=source, rows=rows, columns=columns, width=width)


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
    """Return a clickable picture above the figure ``draw(row=…, column=…)``, which is redrawn for each picked cell.

    Two sliders show and set the same cell, for keyboards and for pages without anywidget. Further controls are passed
    to ``draw`` by name. ``start`` is the first (row, column); the box has the picture as ``picture_widget``.
    """
    row, column = slider("row", 0, rows - 1, start[0]), slider("column", 0, columns - 1, start[1])
    box = interactive_figure(draw, row=row, column=column, **controls)
    picture_widget = clickable_picture(picture, rows, columns, width)
    if picture_widget is None:
        return box
    picture_widget.cell = list(start)

    def set_sliders(change: Any) -> None:
        with picture_widget.hold_trait_notifications():  # the two sliders change one after the other
            row.value, column.value = change["new"]

    def set_cell(_change: Any) -> None:
        if [row.value, column.value] != picture_widget.cell:
            picture_widget.cell = [row.value, column.value]

    picture_widget.observe(set_sliders, "cell")
    row.observe(set_cell, "value")
    column.observe(set_cell, "value")
    box.children = [widgets.HBox([picture_widget, widgets.VBox(box.children[:-1])]), box.children[-1]]
    box.picture_widget = picture_widget
    return box
