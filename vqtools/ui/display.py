"""Display of panels in a notebook: the style sheet, and a box of rows that shows itself as a cell's output.

Knows widgets and one file of CSS; nothing about what a panel holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from vqtools.core.settings import quick_requested

_STYLE_SHEET = Path(__file__).with_name("panel.css")
QUICK_NOTE = "Quick run: VQTOOLS_QUICK=1 keeps sizes and steps small."


class Displayed:
    """Shows its ``view`` as the output of a cell."""

    view: Any

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.view)  # type: ignore[no-untyped-call]


def panel_view(rows: Sequence[Any]) -> Any:
    """A panel of these rows, below its style sheet."""
    style = widgets.HTML(f"<style>{_STYLE_SHEET.read_text('utf-8')}</style>", layout=widgets.Layout(display="none"))
    view = widgets.VBox([style, *rows])
    view.add_class("vqtools-panel")
    return view


def page_row(picture: Any, form: Any) -> Any:
    """The row of a panel with its picture on the left and its form on the right."""
    page = widgets.HBox([picture, form])
    page.add_class("vqtools-page")
    return page


def quick_note() -> Any:
    """A line that says that runs are kept small; hidden unless they are."""
    note = widgets.HTML(QUICK_NOTE if quick_requested() else "")
    note.layout.display = "" if note.value else "none"
    return note
