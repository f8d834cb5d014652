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

from vqtools import media, records, studio
from vqtools.animation import video
from vqtools.drawing import Drawing
from vqtools.painting.easel import Easel
from vqtools.painting.inputs import Inputs
from vqtools.painting.settings import PaintSettings
from vqtools.picture import Painting
from vqtools.settings import UserError

Halves = Literal["left-right", "top-bottom"]

OCTAVE = 2.0  # the most that one step enlarges
GENTLE = {"learning_rate": 0.05}  # what is there shall be worked out, not painted anew


def begin_from(
    picture: Image.Image,
    name: str,
    fields: Mapping[str, Any],
    *,
    record: Mapping[str, Any] | None = None,
    trusted: bool = False,
) -> Easel:
    """A painting that begins with a picture at hand, which its record holds under a name.

    record: of the picture that the fields come from, whose other inputs are then still known.
    """
    inputs = Inputs(record, trusted=trusted)
    inputs.hold(name, picture)
    settings = PaintSettings.parse({**fields, "init": "auto", "init_image": name})
    return Easel(studio.painting(settings, inputs=inputs))


def bigger(
    source: str | Path | Easel | Painting, factor: float = 1.5, *, trusted: bool = False, **changes: Any
) -> Easel:
    """Go on at a larger size from a picture of ours, a file or a job under way: with half its iterations, gently.

    factor: more than 1, at most 2; for more, do it again. changes: settings that shall be others.
    trusted: open files that only the picture's record names.
    """
    if not 1 < factor <= OCTAVE:
        raise UserError(
            f"bigger by {factor:g}: must be more than 1, at most 2; for more, do it again with what it made"
        )
    record: dict[str, Any] = {}
    if isinstance(source, str | Path):
        record = media.read_record(source)
        before = PaintSettings.parse({**records.restored(record, changes)})
        picture, stem = media.load_picture(source), Path(source).stem
    else:
        before, picture = source.settings, source.picture()
        record, stem = source.record(), media.file_stem(before.prompt, before.seed or 0)
    f = 1 if before.drawer == "pixels" else studio.load_vqgan(before.vqgan).f
    size = tuple(max(f, round(side * factor / f) * f) for side in picture.size)
    fields = {**before.model_dump(), **GENTLE, "iterations": max(1, before.iterations // 2), "size": size, **changes}
    return begin_from(picture, f"{stem}.png", fields, record=record, trusted=trusted)


def crossed(a: Image.Image, b: Image.Image, halves: Halves = "left-right") -> Image.Image:
    """The left (or upper) half of one picture and the right (or lower) half of another, a soft seam between."""
    b = media.fit(b, a.size)
    across = halves == "left-right"
    length = a.width if across else a.height
    seam = max(2, length // 8)
    ramp = np.clip((np.arange(length) - (length - seam) / 2) / seam, 0, 1)
    mask = np.broadcast_to(ramp if across else ramp[:, None], (a.height, a.width))
    return Image.composite(b, a, Image.fromarray((mask * 255).round().astype(np.uint8)))


def replay(source: str | Path, *, size: tuple[int, int] | None = None, trusted: bool = False) -> Easel:
    """The making of a picture of ours, from its PNG, as a job that follows its journal; at another size if asked."""
    record = media.read_record(source)
    if record.get("activity", "paint") != "paint":
        raise UserError(f"{source} was not painted; its making can't be told again")
    record = {**record, "settings": record.get("began", record.get("settings"))}
    fields = records.restored(record, {})
    if size is not None:
        fields["size"] = size
    threads = record.get("threads")
    threads = threads if isinstance(threads, int) and 1 <= threads <= 1024 else None
    return studio.easel(PaintSettings.parse(fields), threads=threads, record=record, trusted=trusted, replay=True)


class Film:
    """A picture whose making is filmed, as a job; use it in a ``with``, and :meth:`write` the video at the end.

    work: a painting, or a transformer's drawing: then the window is seen as it walks.

    seconds: about how long the video shall be, at most a frame a step.
    """

    def __init__(self, work: Easel | Drawing, *, seconds: float = 8.0, fps: float = 24.0) -> None:
        if not 0.1 <= seconds <= 3600:
            raise UserError(f"a film of {seconds:g} s: must be 0.1 to 3600")
        self.work, self.fps, self._frames = work, fps, 0
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
        return self.work.position

    @property
    def total(self) -> int:
        return self.work.total

    def step(self) -> dict[str, float]:
        """One step of the painting, and a frame of it where one is due."""
        scalars = self.work.step()
        if self._frames <= self.position * self._wanted / self.total:
            self._keep(self.work.preview())
        return scalars

    def preview(self) -> Image.Image:
        return self.work.preview()

    def _keep(self, picture: Image.Image) -> None:
        if picture.size != self.work.settings.size:  # the transformer's grids side by side
            picture = media.extend(picture, self.work.settings.size)
        picture.save(Path(self._folder.name) / video.PATTERN.format(self._frames))
        self._frames += 1

    def write(self, path: str | Path) -> video.Made:
        """The video of what was filmed; its end is held for a second."""
        for _ in range(max(1, round(self.fps))):
            self._keep(self.work.picture())
        frames = video.frames_in(self._folder.name)
        return video.write(frames, path, fps=self.fps)

    def state_dict(self) -> dict[str, Any]:
        return self.work.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.work.load_state_dict(state)
