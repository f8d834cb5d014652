"""Widgets that redraw a figure of notebook 00: sliders, dropdowns, and the box that joins them to a figure.

Knows ipywidgets; nothing about what a figure shows.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from vqtools.core.errors import UserError

_STYLE = {"description_width": "80px"}
_WIDTH = "340px"


def slider(name: str, low: int, high: int, value: int, *, live: bool = True) -> widgets.IntSlider:
    """Return a slider over the integers low … high; with ``live`` it reports values while it is dragged."""
    return widgets.IntSlider(
        value=value,
        min=low,
        max=high,
        description=name,
        continuous_update=live,
        style=_STYLE,
        layout=widgets.Layout(width=_WIDTH),
    )


def dropdown(name: str, options: list[tuple[str, Any]], value: Any) -> widgets.Dropdown:
    """Return a dropdown; each option is a pair (label, value)."""
    return widgets.Dropdown(
        options=options, value=value, description=name, style=_STYLE, layout=widgets.Layout(width=_WIDTH)
    )


def interactive_figure(draw: Callable[..., Any], **controls: widgets.Widget) -> widgets.VBox:
    """Return controls above a figure that is redrawn when one of them changes.

    Each control is passed to ``draw`` as the keyword argument of its name. An error raised by the first drawing is
    raised here; one raised by a later drawing is shown in place of the figure.
    """
    output = widgets.HTML()

    def redraw(_change: Any = None) -> None:
        try:
            output.value = draw(**{name: control.value for name, control in controls.items()})._repr_html_()
        except (UserError, ValueError, RuntimeError) as error:
            output.value = f"<pre>{html.escape(f'{type(error).__name__}: {error}')}</pre>"

    for control in controls.values():
        control.observe(redraw, "value")
    output.value = draw(**{name: control.value for name, control in controls.items()})._repr_html_()
    return widgets.VBox([*controls.values(), output])
