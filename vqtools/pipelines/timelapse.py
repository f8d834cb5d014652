"""A time-lapse: the making of a picture as a video.

Wraps a job and writes a frame now and then. Knows the job's previews and video files; nothing about how it works.
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
    """A job that also collects frames of another job, a painting or a sample; use it in a ``with`` statement.

    seconds: about how long the video will be, with at most one frame per step. :meth:`write` writes it at the end.
    """

    def __init__(self, job: PaintSession | SampleJob, *, seconds: float = 8.0, fps: float = 24.0) -> None:
        if not 0.1 <= seconds <= 3600:
            raise UserError(f"a video of {seconds:g} s: must be 0.1 to 3600")
        self.job, self.fps, self._frame_count = job, fps, 0
        self._target_count = max(2, round(seconds * fps))
        self._folder = tempfile.TemporaryDirectory()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    @property
    def position(self) -> int:
        """Steps of the job done."""
        return self.job.position

    @property
    def total(self) -> int:
        """Steps of the job in total."""
        return self.job.total

    def step(self) -> dict[str, float]:
        """Do one step of the job, and save a frame if one is due."""
        scalars = self.job.step()
        if self._frame_count <= self.position * self._target_count / self.total:
            self._save_frame(self.job.preview())
        return scalars

    def preview(self) -> Image.Image:
        """The job's preview."""
        return self.job.preview()

    def _save_frame(self, picture: Image.Image) -> None:
        if picture.size != self.job.settings.size:  # several candidates side by side
            picture = resize_and_pad(picture, self.job.settings.size)
        picture.save(Path(self._folder.name) / frame_name(self._frame_count))
        self._frame_count += 1

    def write(self, path: str | Path) -> WrittenVideo:
        """Write the video; its last picture is held for a second."""
        for _ in range(max(1, round(self.fps))):
            self._save_frame(self.job.picture())
        return write_video(list_frames(self._folder.name), path, fps=self.fps)

    def state_dict(self) -> dict[str, Any]:
        """The job's state; frames are not part of it."""
        return self.job.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the job from a state."""
        self.job.load_state_dict(state)
