"""TODO: what this module is.

Split from vqtools.onward.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from PIL import Image

from vqtools.core.errors import UserError
from vqtools.media.image import resize_and_pad
from vqtools.media.video import WrittenVideo, frame_name, list_frames, write_video
from vqtools.painting.session import PaintSession
from vqtools.pipelines.sample import SampleJob


class Timelapse:
    """A picture whose making is filmed, as a job; use it in a ``with``, and :meth:`write_video` the video at the end.

    work: a painting, or a transformer's drawing: then the window is seen as it walks.

    seconds: about how long the video shall be, at most a frame a step.
    """

    def __init__(self, work: PaintSession | SampleJob, *, seconds: float = 8.0, fps: float = 24.0) -> None:
        if not 0.1 <= seconds <= 3600:
            raise UserError(f"a film of {seconds:g} s: must be 0.1 to 3600")
        self.job, self.fps, self._frame_count = work, fps, 0
        self._wanted = max(2, round(seconds * fps))
        self._folder = tempfile.TemporaryDirectory()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, way: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    @property
    def position(self) -> int:
        return self.job.position

    @property
    def total(self) -> int:
        return self.job.total

    def step(self) -> dict[str, float]:
        """One step of the painting, and a frame of it where one is due."""
        scalars = self.job.step()
        if self._frame_count <= self.position * self._wanted / self.total:
            self._keep(self.job.preview())
        return scalars

    def preview(self) -> Image.Image:
        return self.job.preview()

    def _keep(self, picture: Image.Image) -> None:
        if picture.size != self.job.settings.size:  # the transformer's grids side by side
            picture = resize_and_pad(picture, self.job.settings.size)
        picture.save(Path(self._folder.name) / frame_name(self._frame_count))
        self._frame_count += 1

    def write(self, path: str | Path) -> WrittenVideo:
        """The video of what was filmed; its end is held for a second."""
        for _ in range(max(1, round(self.fps))):
            self._keep(self.job.picture())
        frames = list_frames(self._folder.name)
        return write_video(frames, path, fps=self.fps)

    def state_dict(self) -> dict[str, Any]:
        return self.job.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.job.load_state_dict(state)
