"""Go on from a picture that is there: bigger, crossed with another, or its making told again as a video.

Knows pictures, settings and easels; nothing about flags or panels.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from vqtools.core.errors import UserError
from vqtools.core.paths import file_stem
from vqtools.media.image import load_picture, resize_and_crop
from vqtools.media.png_record import read_record
from vqtools.painting.image_inputs import ImageInputs
from vqtools.painting.session import PaintSession
from vqtools.painting.settings import PaintSettings
from vqtools.pipelines.paint import create_paint_job
from vqtools.pipelines.paint_job import PaintJob
from vqtools.pipelines.reproduce import settings_from_record
from vqtools.weights.load import load_vqgan

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
    inputs.add(name, picture)
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
        record = read_record(source)
        before = PaintSettings.parse({**settings_from_record(record, changes)})
        picture, stem = load_picture(source), Path(source).stem
    else:
        before, picture = source.settings, source.picture()
        record, stem = source.record(), file_stem(before.prompt, before.seed or 0)
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
