"""TODO: what this module is.

Split from vqtools.ui.illustrated.style.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from vqtools.core.errors import UserError


def slider(name: str, low: int, high: int, value: int, *, live: bool = True) -> widgets.IntSlider:
    """A slider over whole numbers; ``live`` redraws while it moves."""
    return widgets.IntSlider(
        value=value, min=low, max=high, description=name, continuous_update=live,
        style={"description_width": "80px"}, layout=widgets.Layout(width="340px"),
    )  # fmt: skip


def dropdown(name: str, options: list[tuple[str, Any]], value: Any) -> widgets.Dropdown:
    """A list to choose from: (what is shown, what it stands for)."""
    return widgets.Dropdown(
        options=options, value=value, description=name,
        style={"description_width": "80px"}, layout=widgets.Layout(width="340px"),
    )  # fmt: skip


def interactive_figure(draw: Callable[..., Any], **controls: widgets.Widget) -> widgets.VBox:
    """Controls above a drawing that follows them; each is an argument of ``draw`` by its name.

    A fault while redrawing is shown in the drawing's place. ``.redraw()`` draws again.
    """
    place = widgets.HTML()

    def redraw(_: Any = None) -> None:
        try:
            place.value = draw(**{name: control.value for name, control in controls.items()})._repr_html_()
        except (UserError, ValueError, RuntimeError) as error:
            place.value = f"<pre>{html.escape(f'{type(error).__name__}: {error}')}</pre>"

    for control in controls.values():
        control.observe(redraw, "value")
    redraw()
    if place.value.startswith("<pre>"):  # the first drawing must not fail in silence
        draw(**{name: control.value for name, control in controls.items()})
    box = widgets.VBox([*controls.values(), place])
    box.redraw = redraw
    return box
