"""Choosing on a sheet of paintings, and asking for several at once.

Knows sheets and widgets; nothing about how a picture is painted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from vqtools.core.errors import UserError
from vqtools.ui.callbacks import CallbackGuard

if TYPE_CHECKING:
    from vqtools.pipelines.grid import PaintGrid


class GridPicker:
    """The row under a sheet: go on with one of its paintings, or cross the halves of two.

    pick(index), cross(first, second, halves): what is asked, by numbers from 0. back(): show the sheet again.
    """

    def __init__(
        self,
        layer: Any,
        *,
        pick: Callable[[int], None],
        cross: Callable[[int, int, str], None],
        back: Callable[[], None],
        wrap: CallbackGuard,
    ) -> None:
        self.layer, self._shown = layer, False
        self.sheet: PaintGrid | None = None
        auto = widgets.Layout(width="auto")
        number = widgets.Layout(width="72px")
        self.words = widgets.HTML()
        self.words.add_class("vqtools-said")
        self.first = widgets.Dropdown(options=[("1", 0)], layout=number)
        self.second = widgets.Dropdown(options=[("–", None)], layout=number)
        self.halves = widgets.Dropdown(options=["left-right", "top-bottom"], layout=widgets.Layout(width="110px"))
        self.go = widgets.Button(description="Go on with it", tooltip="paint this one to its end", layout=auto)
        self.cross_button = widgets.Button(
            description="Cross", tooltip="begin with one half of each of the two", layout=auto
        )
        self.back = widgets.Button(description="Back to the sheet", tooltip="choose again", layout=auto)
        self.go.on_click(wrap(lambda: pick(int(self.first.value))))
        self.cross_button.on_click(wrap(lambda: self._cross(cross)))
        self.back.on_click(wrap(back))
        for widget in (self.first, self.second):
            widget.observe(wrap(self._mark), names=["value"])
        with_it = widgets.HTML("with")
        with_it.add_class("vqtools-said")
        self._row = [self.words, self.first, self.go, self.cross_button, with_it, self.second, self.halves]
        self.view = widgets.HBox([])
        self.view.add_class("vqtools-row")
        self.view.add_class("vqtools-tools")
        self.refresh(None, False)

    def refresh(self, sheet: PaintGrid | None, shown: bool) -> None:
        """sheet: the last one, if there is one; shown: whether it is what the picture shows."""
        self.sheet, self._shown = sheet, shown
        done = len(sheet.finished) if sheet is not None else 0
        self.view.children = self._row if shown else [self.back]
        self.view.layout.display = "" if done else "none"
        if [value for _, value in self.first.options] != list(range(max(1, done))):
            first, second = self.first.value, self.second.value
            self.first.options = [(str(i + 1), i) for i in range(max(1, done))]
            self.second.options = [("–", None), *((str(i + 1), i) for i in range(done))]
            self.first.value = first if first is not None and first < done else 0
            self.second.value = second if second is not None and second < done else None
        self.words.value = "click one, two with Shift; or" if self.layer is not None else "choose"
        self._mark()

    def clicked(self, x: float, y: float, more: bool) -> None:
        """A click on the sheet: the first; with a key held, the second."""
        if self.sheet is None or not self._shown:
            return
        for index, (left, top, right, bottom) in enumerate(self.sheet.boxes()):
            if left <= x < right and top <= y < bottom and index < len(self.sheet.finished):
                if more:
                    self.second.value = index
                else:
                    self.first.value = index

    def _cross(self, cross: Callable[[int, int, str], None]) -> None:
        if self.second.value is None or self.second.value == self.first.value:
            raise UserError("choose two different paintings to cross")
        cross(int(self.first.value), int(self.second.value), str(self.halves.value))

    def _mark(self) -> None:
        self.cross_button.disabled = self.second.value is None or self.second.value == self.first.value
        if self.layer is None:
            return
        self.layer.pick = bool(self._shown and self.sheet is not None and self.sheet.finished)
        if not self.layer.pick or self.sheet is None:
            self.layer.frames = []
            return
        boxes = self.sheet.boxes()
        chosen = [self.first.value, *([self.second.value] if self.second.value is not None else [])]
        self.layer.frames = [list(boxes[index]) for index in chosen]
