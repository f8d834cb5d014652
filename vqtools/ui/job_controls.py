"""The widgets of a running job: the picture as it forms, four buttons and a status line.

Knows widgets, pictures and errors; nothing about jobs.
"""

from __future__ import annotations

import html
import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from vqtools.core.errors import UserError
from vqtools.ui.widget_bytes import jpeg_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

    from vqtools.ui.job_worker import RunState

PREVIEW_QUALITY = 88  # of the JPEG while the job runs


class JobControls:
    """Picture, buttons and status line. ``callbacks``: what "start", "pause", "step" and "stop" call."""

    def __init__(self, verb: str, callbacks: Mapping[str, Callable[[], None]]) -> None:
        self._labels = {"start": verb, "pause": "Pause", "step": "Step", "stop": "Stop"}
        self._callbacks = dict(callbacks)
        self._build()

    def _build(self) -> None:
        self.picture = widgets.Image(format="jpeg", layout=widgets.Layout(visibility="hidden"))
        self.view = widgets.Box([self.picture])
        self.view.add_class("vqtools-picture")
        self.status = widgets.HTML()
        self.status.add_class("vqtools-status")
        self._buttons = {
            name: widgets.Button(description=label, disabled=name != "start", layout=widgets.Layout(width="84px"))
            for name, label in self._labels.items()
        }
        self._buttons["start"].button_style = "primary"
        for name, button in self._buttons.items():
            button.on_click(self.guard(self._callbacks[name]))
        self.buttons = widgets.HBox([*self._buttons.values(), self.status])
        self.buttons.add_class("vqtools-row")

    def recreate(self) -> bool:
        """Replace widgets that were closed by new ones with the same content; False if none were closed."""
        if self.view.comm is not None and self.buttons.comm is not None:
            return False
        image, status = self.picture.value, self.status.value
        self._build()
        self.picture.value, self.status.value = image, status
        if image:
            self.picture.layout.visibility = "visible"
        return True

    def insert_after_start(self, *buttons: Any) -> None:
        """Place more buttons right after the first."""
        start, *others = self._buttons.values()
        self.buttons.children = (start, *buttons, *others, self.status)

    def update(self, state: RunState, can_resume: bool) -> None:
        """Enable the buttons that can be used in a state.

        can_resume: whether an idle job has steps left that Resume or Step can make.
        """
        running, resume = state in ("working", "paused"), state == "idle" and can_resume
        usable = {
            "start": state == "idle",
            "pause": running or resume,
            "step": state == "paused" or resume,
            "stop": running,
        }
        for name, button in self._buttons.items():
            button.disabled = not usable[name]
        self._buttons["pause"].description = "Resume" if state == "paused" or resume else "Pause"

    def set_status(self, text: str, *, error: bool = False, details: str = "") -> None:
        """Show one line of plain text in place of the last; details are folded away below it."""
        line = f'<span class="{"vqtools-error" if error else ""}">{html.escape(text)}</span>'
        if details:
            line = f"<details><summary>{line}</summary><pre>{html.escape(details)}</pre></details>"
        self.status.value = line

    def show_picture(self, image: Image, quality: int = PREVIEW_QUALITY) -> None:
        """Show a picture, encoded as JPEG of this quality."""
        self.picture.value = jpeg_bytes(image, quality)
        self.picture.layout.visibility = "visible"

    def show_error(self, error: BaseException, after: str = "") -> None:
        """Show an error in the status line; one that is not a UserError with its traceback folded below.

        after: text that follows the error.
        """
        if isinstance(error, UserError):
            self.set_status(f"{error}{after}", error=True)
        else:
            trace = "".join(traceback.format_exception(error))
            self.set_status(f"{type(error).__name__}: {error}{after}", error=True, details=trace)

    def guard(self, act: Callable[[], None]) -> Callable[[Any], None]:
        """A widget callback that shows the exceptions of ``act`` in the panel; Jupyter would only log them."""

        def call(_: Any) -> None:
            try:
                act()
            except Exception as error:
                self.show_error(error)

        return call
