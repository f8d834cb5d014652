"""Frames that depend only on their number, rendered one by one into a folder.

Knows pictures and the folder; what a frame shows is an argument.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from vqtools.animation.project import Project
from vqtools.media.image import load_picture
from vqtools.media.video import frame_name


class FrameRenderer:
    """A job that writes one frame per step. Frames that the folder already holds are not rendered again."""

    def __init__(self, settings: Any, project: Project, render: Callable[[int], Image.Image]) -> None:
        self.settings, self.project, self._render = settings, project, render
        self.total, self.position = settings.frames, 0
        while self.position < self.total and self._path(self.position).is_file():
            self.position += 1

    def _path(self, number: int) -> Path:
        return self.project.frames / frame_name(number)

    @property
    def done(self) -> int:
        """Frames written so far."""
        return self.position

    def step(self) -> dict[str, float]:
        """Render and write one frame."""
        self.project.save_frame(self.position, self._render(self.position), {})
        self.position += 1
        return {"frame": float(self.position)}

    def preview(self) -> Image.Image | None:
        """The newest frame."""
        return load_picture(self._path(self.position - 1)) if self.position else None

    def state_dict(self) -> dict[str, Any]:
        """The number of frames written: they are in the folder."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue after that many frames."""
        self.position = int(state["position"])
