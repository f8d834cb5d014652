"""The row under a picture in the making: its history as a slider, undo and redo, and the losses of each prompt.

Knows a runner and what an easel offers; nothing about settings or how a picture is painted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from vqtools.core.job import StepReport
from vqtools.ui.job_runner import Runner
from vqtools.ui.plots import sparkline_svg

if TYPE_CHECKING:
    from PIL.Image import Image

_MAX_POINTS = 240  # of a sparkline; a longer run keeps every second one
_MAX_NAME_CHARS = 28


class HistoryBar:
    """Slider, buttons and losses of a runner whose job is an easel. ``looking``: the step that is looked back at."""

    def __init__(
        self,
        runner: Runner,
        *,
        branch: Callable[[int], None],
        undo: Callable[[], None],
        redo: Callable[[], None],
        save: Callable[[], None],
    ) -> None:
        self.runner = runner
        self.viewed_position: int | None = None
        self.lock = threading.RLock()  # buttons and slider are set by the worker and by callbacks
        self._losses: dict[str, list[tuple[float, float]]] = {}
        self._setting_thread: int | None = None  # the thread that sets the slider for the program, not for a person
        self.slider = widgets.IntSlider(
            0, 0, 1, description="history", readout=False, disabled=True, layout=widgets.Layout(flex="1 1 260px"),
            style={"description_width": "52px"},
        )  # fmt: skip
        self.slider.add_class("vqtools-history")
        self.buttons: dict[str, Any] = {}
        self._button("branch", "Branch here", "go on from the step that the slider shows",
                     lambda: branch(self.viewed_position if self.viewed_position is not None else self.slider.value))  # fmt: skip
        self._button("undo", "Undo", "back to before the last edit or stroke", undo)
        self._button("redo", "Redo", "forward again to where Undo was pressed", redo)
        self._button("save", "Save", "keep the picture as it stands", save)
        self.losses = widgets.HTML()
        self.losses.add_class("vqtools-losses")
        self.row = widgets.HBox([self.slider, *self.buttons.values()])
        self.row.add_class("vqtools-row")
        self.view = widgets.VBox([self.row, self.losses])
        self.slider.observe(self._moved, names=["value"])
        self._follow()
        self.refresh()

    def add_button(self, name: str, text: str, help: str, act: Callable[[], None]) -> None:
        """One more button that needs a picture in the making."""
        self._button(name, text, help, act)
        self.row.children = (self.slider, *self.buttons.values())
        self.refresh()

    def add(self, widget: Any, below: Any = None) -> None:
        """One more thing in the row, and what it opens right below the row."""
        self.row.children = (*self.row.children, widget)
        if below is not None:
            self.view.children = (self.row, below, *self.view.children[1:])

    def begin(self) -> None:
        """Forget the last run."""
        self.viewed_position = None
        self._losses.clear()
        self.losses.value = ""

    def show_present(self) -> None:
        """Look back no longer."""
        self.viewed_position = None

    def _button(self, name: str, text: str, help: str, act: Callable[[], None]) -> None:
        button = widgets.Button(description=text, tooltip=help, disabled=True, layout=widgets.Layout(width="auto"))
        button.on_click(self.runner.guard(act))
        self.buttons[name] = button

    def _moved(self, change: Any) -> None:
        def act() -> None:
            if self._setting_thread == threading.get_ident() or self._easel is None:
                return
            if self.runner.state == "working":
                self.runner.pause()
            self.viewed_position = change["new"] if change["new"] < self._easel.position else None
            self.runner.queue_action(self._describe_view)

        self.runner.guard(act)(None)

    def _describe_view(self, easel: Any) -> str:
        if self.viewed_position is None:
            return "the present"
        seen = max(one for one in easel.positions if one <= self.viewed_position)
        return f"this was step {self.viewed_position}" + (
            f", the picture of step {seen}" if seen < self.viewed_position else ""
        )

    @property
    def _easel(self) -> Any:
        return self.runner.job if hasattr(self.runner.job, "branch") else None

    def preview(self, job: Any) -> Image | None:
        """The picture to show: the present, or that of the step looked back at."""
        image: Image | None = job.preview() if self.viewed_position is None else job.preview_at(self.viewed_position)
        return image

    def step_done(self, report: StepReport) -> None:
        """Add the losses of a step."""
        for name, value in report.scalars.items():
            points = self._losses.setdefault(name, [])
            points.append((report.position, value))
            if len(points) > _MAX_POINTS:
                del points[1:-1:2]
        if report.image is not None:
            self._show_losses()
            self.refresh()

    def _show_losses(self) -> None:
        names = [name for name in self._losses if name != "loss"] or list(self._losses)
        self.losses.value = " ".join(sparkline_svg(_shorten_name(name), self._losses[name]) for name in names)

    def refresh(self) -> None:
        """Turn on what can be used now."""
        with self.lock:
            self._refresh()

    def _refresh(self) -> None:
        if self.runner.state in ("working", "stopping"):
            self.viewed_position = None
        self._follow()
        easel, steerable = self._easel, self.runner.state != "stopping"
        usable = {
            "branch": self.viewed_position is not None,
            "undo": easel is not None and easel.can_undo,
            "redo": easel is not None and easel.can_redo,
        }
        for name, button in self.buttons.items():
            button.disabled = not (steerable and usable.get(name, easel is not None and easel.position > 0))

    def _follow(self) -> None:
        """The slider stands where the run is, or where a person looks back."""
        easel = self._easel
        self.slider.disabled = easel is None or easel.position == 0
        if easel is None:
            return
        for points in self._losses.values():  # of a way that was left
            while points and points[-1][0] > easel.position:
                points.pop()
        at = easel.position if self.viewed_position is None else self.viewed_position
        self._setting_thread = threading.get_ident()
        try:
            self.slider.max = max(1, easel.total)  # which may also set the value
            self.slider.value = at
        finally:
            self._setting_thread = None


def _shorten_name(name: str) -> str:
    return name if len(name) <= _MAX_NAME_CHARS else name[: _MAX_NAME_CHARS - 1] + "…"
