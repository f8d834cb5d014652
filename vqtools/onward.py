"""Go on from a picture that is there: bigger, crossed with another, or its making told again as a video.

Knows pictures, settings and easels; nothing about flags or panels.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from PIL import Image

from vqtools import media
from vqtools.animation.video import FRAME_PATTERN, WrittenVideo, list_frames, write_video
from vqtools.drawing import SampleJob
from vqtools.media import resize_and_crop, resize_and_pad
from vqtools.networks import load_vqgan
from vqtools.painting.easel import PaintSession
from vqtools.painting.inputs import ImageInputs
from vqtools.painting.settings import PaintSettings
from vqtools.picture import PaintJob
from vqtools.records import settings_from_record
from vqtools.settings import UserError
from vqtools.studio import create_paint_job, create_session

Halves = Literal["left-right", "top-bottom"]

MAX_FACTOR = 2.0  # the most that one step enlarges
ENLARGE_SETTINGS = {"learning_rate": 0.05}  # what is there shall be worked out, not painted anew


def create_session_from_picture(
    picture: Image.Image,
    name: str,
    fields: Mapping[str, Any],
    *,
    record: Mapping[str, Any] | None = None,
    trusted: bool = False,
) -> PaintSession:
    """A painting that begins with a picture at hand, which its record holds under a name.

    record: of the picture that the fields come from, whose other inputs are then still known.
    """
    inputs = ImageInputs(record, trusted=trusted)
    inputs.hold(name, picture)
    settings = PaintSettings.parse({**fields, "init": "auto", "init_image": name})
    return PaintSession(create_paint_job(settings, inputs=inputs))


def enlarge(
    source: str | Path | PaintSession | PaintJob, factor: float = 1.5, *, trusted: bool = False, **changes: Any
) -> PaintSession:
    """Go on at a larger size from a picture of ours, a file or a job under way: with half its iterations, gently.

    factor: more than 1, at most 2; for more, do it again. changes: settings that shall be others.
    trusted: open files that only the picture's record names.
    """
    if not 1 < factor <= MAX_FACTOR:
        raise UserError(
            f"bigger by {factor:g}: must be more than 1, at most 2; for more, do it again with what it made"
        )
    record: dict[str, Any] = {}
    if isinstance(source, str | Path):
        record = media.read_record(source)
        before = PaintSettings.parse({**settings_from_record(record, changes)})
        picture, stem = media.load_picture(source), Path(source).stem
    else:
        before, picture = source.settings, source.picture()
        record, stem = source.record(), media.file_stem(before.prompt, before.seed or 0)
    f = 1 if before.drawer == "pixels" else load_vqgan(before.vqgan).f
    size = tuple(max(f, round(side * factor / f) * f) for side in picture.size)
    fields = {
        **before.model_dump(),
        **ENLARGE_SETTINGS,
        "iterations": max(1, before.iterations // 2),
        "size": size,
        **changes,
    }
    return create_session_from_picture(picture, f"{stem}.png", fields, record=record, trusted=trusted)


def cross_pictures(a: Image.Image, b: Image.Image, halves: Halves = "left-right") -> Image.Image:
    """The left (or upper) half of one picture and the right (or lower) half of another, a soft seam between."""
    b = resize_and_crop(b, a.size)
    across = halves == "left-right"
    length = a.width if across else a.height
    seam = max(2, length // 8)
    ramp = np.clip((np.arange(length) - (length - seam) / 2) / seam, 0, 1)
    mask = np.broadcast_to(ramp if across else ramp[:, None], (a.height, a.width))
    return Image.composite(b, a, Image.fromarray((mask * 255).round().astype(np.uint8)))


def replay(source: str | Path, *, size: tuple[int, int] | None = None, trusted: bool = False) -> PaintSession:
    """The making of a picture of ours, from its PNG, as a job that follows its journal; at another size if asked."""
    record = media.read_record(source)
    if record.get("activity", "paint") != "paint":
        raise UserError(f"{source} was not painted; its making can't be told again")
    record = {**record, "settings": record.get("began", record.get("settings"))}
    fields = settings_from_record(record, {})
    if size is not None:
        fields["size"] = size
    threads = record.get("threads")
    threads = threads if isinstance(threads, int) and 1 <= threads <= 1024 else None
    return create_session(PaintSettings.parse(fields), threads=threads, record=record, trusted=trusted, replay=True)


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
        picture.save(Path(self._folder.name) / FRAME_PATTERN.format(self._frame_count))
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
