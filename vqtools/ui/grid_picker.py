"""The row under a grid of paintings, to choose among them.

Knows grids and widgets; nothing about how a picture is painted.
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
    """Continue one painting of a grid, or cross the halves of two.

    canvas: from :func:`~vqtools.ui.canvas.create_canvas`, or None. pick(index) and cross(first, second, halves) are
    called with numbers from 0, back() to show the grid again.
    """

    def __init__(
        self,
        canvas: Any,
        *,
        pick: Callable[[int], None],
        cross: Callable[[int, int, Any], None],
        back: Callable[[], None],
        guard: CallbackGuard,
    ) -> None:
        self.canvas, self._shown = canvas, False
        self.grid: PaintGrid | None = None
        auto = widgets.Layout(width="auto")
        number = widgets.Layout(width="72px")
        self.message = widgets.HTML()
        self.message.add_class("vqtools-said")
        self.first_choice = widgets.Dropdown(options=[("1", 0)], layout=number)
        self.second_choice = widgets.Dropdown(options=[("–", None)], layout=number)
        self.halves = widgets.Dropdown(options=["left-right", "top-bottom"], layout=widgets.Layout(width="110px"))
        self.continue_button = widgets.Button(
            description="Continue it", tooltip="paint this one to its end", layout=auto
        )
        self.cross_button = widgets.Button(
            description="Cross", tooltip="start from one half of each of the two", layout=auto
        )
        self.back_button = widgets.Button(description="Back to the grid", tooltip="choose again", layout=auto)
        self.continue_button.on_click(guard(lambda: pick(int(self.first_choice.value))))
        self.cross_button.on_click(guard(lambda: self._cross(cross)))
        self.back_button.on_click(guard(back))
        for widget in (self.first_choice, self.second_choice):
            widget.observe(guard(self._mark), names=["value"])
        with_it = widgets.HTML("with")
        with_it.add_class("vqtools-said")
        self._row = [
            self.message,
            self.first_choice,
            self.continue_button,
            self.cross_button,
            with_it,
            self.second_choice,
            self.halves,
        ]
        self.view = widgets.HBox([])
        self.view.add_class("vqtools-row")
        self.view.add_class("vqtools-tools")
        self.refresh(None, False)

    def refresh(self, grid: PaintGrid | None, shown: bool) -> None:
        """Offer the finished paintings of the last grid; ``shown``: whether the panel shows it."""
        self.grid, self._shown = grid, shown
        done = len(grid.finished) if grid is not None else 0
        self.view.children = self._row if shown else [self.back_button]
        self.view.layout.display = "" if done else "none"
        if [value for _, value in self.first_choice.options] != list(range(max(1, done))):
            first, second = self.first_choice.value, self.second_choice.value
            self.first_choice.options = [(str(i + 1), i) for i in range(max(1, done))]
            self.second_choice.options = [("–", None), *((str(i + 1), i) for i in range(done))]
            self.first_choice.value = first if first is not None and first < done else 0
            self.second_choice.value = second if second is not None and second < done else None
        self.message.value = "click one, with Shift a second; or choose" if self.canvas is not None else "choose"
        self._mark()

    def clicked(self, x: float, y: float, extend: bool) -> None:
        """Choose the painting at a point, given as fractions of the grid's sides; ``extend``: as the second."""
        if self.grid is None or not self._shown:
            return
        for index, (left, top, right, bottom) in enumerate(self.grid.boxes()):
            if left <= x < right and top <= y < bottom and index < len(self.grid.finished):
                if extend:
                    self.second_choice.value = index
                else:
                    self.first_choice.value = index

    def _cross(self, cross: Callable[[int, int, Any], None]) -> None:
        if self.second_choice.value is None or self.second_choice.value == self.first_choice.value:
            raise UserError("choose two different paintings to cross")
        cross(int(self.first_choice.value), int(self.second_choice.value), str(self.halves.value))

    def _mark(self) -> None:
        self.cross_button.disabled = (
            self.second_choice.value is None or self.second_choice.value == self.first_choice.value
        )
        if self.canvas is None:
            return
        self.canvas.pick = bool(self._shown and self.grid is not None and self.grid.finished)
        if not self.canvas.pick or self.grid is None:
            self.canvas.frames = []
            return
        boxes = self.grid.boxes()
        chosen = [
            self.first_choice.value,
            *([self.second_choice.value] if self.second_choice.value is not None else []),
        ]
        self.canvas.frames = [list(boxes[index]) for index in chosen]
