"""The row under a picture that forms: its history as a slider, undo and redo, and the loss of each prompt.

Knows a runner and what a session offers; nothing about settings or how a picture is painted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from vqtools.core.errors import ellipsize
from vqtools.core.job import StepReport
from vqtools.ui.job_runner import Runner
from vqtools.ui.plots import sparkline_svg

if TYPE_CHECKING:
    from PIL.Image import Image

_MAX_POINTS = 240  # of a sparkline; a longer run keeps every second point
_MAX_NAME_CHARS = 28


class HistoryBar:
    """Slider, buttons and losses of a runner whose job is a PaintSession.

    ``viewed_position`` is the earlier step that is shown, or None for the present.
    """

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
        self._setting_thread: int | None = None  # the thread that moves the slider; other moves are a person's
        self.slider = widgets.IntSlider(
            0,
            0,
            1,
            description="history",
            readout=False,
            disabled=True,
            layout=widgets.Layout(flex="1 1 260px"),
            style={"description_width": "52px"},
        )
        self.slider.add_class("vqtools-history")
        self.buttons: dict[str, Any] = {}
        self._add_button(
            "branch",
            "Branch here",
            "continue from the step that the slider shows",
            lambda: branch(self.viewed_position if self.viewed_position is not None else self.slider.value),
        )
        self._add_button("undo", "Undo", "go back to before the last edit or stroke", undo)
        self._add_button("redo", "Redo", "go forward again to where Undo was pressed", redo)
        self._add_button("save", "Save", "save the picture as it is", save)
        self.losses = widgets.HTML()
        self.losses.add_class("vqtools-losses")
        self.row = widgets.HBox([self.slider, *self.buttons.values()])
        self.row.add_class("vqtools-row")
        self.view = widgets.VBox([self.row, self.losses])
        self.slider.observe(self._slider_moved, names=["value"])
        self._move_slider()
        self.refresh()

    def add_button(self, name: str, text: str, help: str, act: Callable[[], None]) -> None:
        """Add a button that is enabled once there is a picture."""
        self._add_button(name, text, help, act)
        self.row.children = (self.slider, *self.buttons.values())
        self.refresh()

    def add_widget(self, widget: Any, below: Any = None) -> None:
        """Add a widget to the row, and right below the row what it opens."""
        self.row.children = (*self.row.children, widget)
        if below is not None:
            self.view.children = (self.row, below, *self.view.children[1:])

    def reset(self) -> None:
        """Clear the history of the last run."""
        self.viewed_position = None
        self._losses.clear()
        self.losses.value = ""

    def show_present(self) -> None:
        """Leave the earlier step that was shown."""
        self.viewed_position = None

    def preview(self, job: Any) -> Image | None:
        """The picture of the step that the slider shows."""
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

    def refresh(self) -> None:
        """Enable what can be used now."""
        with self.lock:
            if self.runner.state in ("working", "stopping"):
                self.viewed_position = None
            self._move_slider()
            session, stopping = self._session, self.runner.state == "stopping"
            usable = {
                "branch": self.viewed_position is not None,
                "undo": session is not None and session.can_undo,
                "redo": session is not None and session.can_redo,
            }
            for name, button in self.buttons.items():
                button.disabled = stopping or not usable.get(name, session is not None and session.position > 0)

    @property
    def _session(self) -> Any:
        job: Any = self.runner.job
        return job if job is not None and job.supports_branching else None

    def _add_button(self, name: str, text: str, help: str, act: Callable[[], None]) -> None:
        button = widgets.Button(description=text, tooltip=help, disabled=True, layout=widgets.Layout(width="auto"))
        button.on_click(self.runner.guard(act))
        self.buttons[name] = button

    def _slider_moved(self, change: Any) -> None:
        def act() -> None:
            if self._setting_thread == threading.get_ident() or self._session is None:
                return
            if self.runner.state == "working":
                self.runner.pause()
            self.viewed_position = change["new"] if change["new"] < self._session.position else None
            self.runner.queue_action(self._describe_view)

        self.runner.guard(act)(None)

    def _describe_view(self, session: Any) -> str:
        if self.viewed_position is None:
            return "the present"
        shown = session.remembered_position(self.viewed_position)
        remark = f", the picture of step {shown}" if shown < self.viewed_position else ""
        return f"this was step {self.viewed_position}{remark}"

    def _show_losses(self) -> None:
        names = [name for name in self._losses if name != "loss"] or list(self._losses)
        self.losses.value = " ".join(
            sparkline_svg(ellipsize(name, _MAX_NAME_CHARS), self._losses[name]) for name in names
        )

    def _move_slider(self) -> None:
        """Set the slider to the present position, or to the one that is viewed."""
        session = self._session
        self.slider.disabled = session is None or session.position == 0
        if session is None:
            return
        for points in self._losses.values():  # drop those of a branch that was left
            while points and points[-1][0] > session.position:
                points.pop()
        position = session.position if self.viewed_position is None else self.viewed_position
        self._setting_thread = threading.get_ident()
        try:
            self.slider.max = max(1, session.total)  # which may also set the value
            self.slider.value = position
        finally:
            self._setting_thread = None
