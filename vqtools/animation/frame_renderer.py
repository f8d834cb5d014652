"""TODO: what this module is.

Split from vqtools.animation.stills.
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
    """Frames by number as a job; those that the folder holds are not made again."""

    def __init__(self, settings: Any, project: Project, frame: Callable[[int], Image.Image]) -> None:
        self.settings, self.project, self._frame = settings, project, frame
        self.total, self.position = settings.frames, 0
        self._skip()

    def _path(self, number: int) -> Path:
        return self.project.frames / frame_name(number)

    def _skip(self) -> None:
        while self.position < self.total and self._path(self.position).is_file():
            self.position += 1

    @property
    def done(self) -> int:
        """Frames written so far."""
        return self.position

    def step(self) -> dict[str, float]:
        """One frame, written."""
        self.project.save_frame(self.position, self._frame(self.position), {})
        self.position += 1
        return {"frame": float(self.position)}

    def preview(self) -> Image.Image | None:
        """The newest frame."""
        return load_picture(self._path(self.position - 1)) if self.position else None

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = int(state["position"])
