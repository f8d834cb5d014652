"""Continue from existing pictures: enlarge one, or cross the halves of two.

Knows pictures, settings and sessions; nothing about flags or panels.
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

MAX_FACTOR = 2.0  # of the sides, in one step
ENLARGE_SETTINGS = {"learning_rate": 0.05}  # low, to refine the picture instead of replacing it


def create_session_from_picture(
    picture: Image.Image,
    name: str,
    fields: Mapping[str, Any],
    *,
    record: Mapping[str, Any] | None = None,
    trusted: bool = False,
) -> PaintSession:
    """A painting that starts from a picture in memory, which its record embeds under ``name``.

    record: of the picture that the fields come from, if they come from one; its other inputs stay available.
    """
    inputs = ImageInputs(record, trusted=trusted)
    inputs.add(name, picture)
    settings = PaintSettings.parse({**fields, "init": "auto", "init_image": name})
    return PaintSession(create_paint_job(settings, inputs=inputs))


def enlarge(
    source: str | Path | PaintSession | PaintJob,
    factor: float = 1.5,
    *,
    record: Mapping[str, Any] | None = None,
    trusted: bool = False,
    **changes: Any,
) -> PaintSession:
    """Continue a picture at a larger size, with half of its iterations and a low learning rate.

    source: a PNG made by vqtools, or a painting, which is left as it is.
    factor: of the sides, above 1 and at most 2; for more, enlarge the result again.
    record: of the PNG, if the caller has read it. trusted: open files that only the PNG's record names.
    changes: settings with other values.
    """
    if not 1 < factor <= MAX_FACTOR:
        raise UserError(
            f"bigger by {factor:g}: must be more than 1, at most {MAX_FACTOR:g}; for more, enlarge the result again"
        )
    if isinstance(source, str | Path):
        record = read_record(source) if record is None else record
        before = PaintSettings.parse(settings_from_record(record, changes))
        picture, stem = load_picture(source), Path(source).stem
    else:
        before, picture, record = source.settings, source.picture(), source.record()
        stem = file_stem(before.prompt, before.known_seed)
    f = 1 if before.drawer == "pixels" else load_vqgan(before.vqgan).f
    fields = {
        **before.model_dump(),
        **ENLARGE_SETTINGS,
        "iterations": max(1, before.iterations // 2),
        "size": tuple(max(f, round(side * factor / f) * f) for side in picture.size),
        **changes,
    }
    return create_session_from_picture(picture, f"{stem}.png", fields, record=record, trusted=trusted)


def cross_pictures(a: Image.Image, b: Image.Image, halves: Halves = "left-right") -> Image.Image:
    """The left (or upper) half of ``a`` beside the right (or lower) half of ``b``, blended along a soft seam."""
    b = resize_and_crop(b, a.size)
    left_right = halves == "left-right"
    length = a.width if left_right else a.height
    seam = max(2, length // 8)  # pixels
    ramp = np.clip((np.arange(length) - (length - seam) / 2) / seam, 0, 1)
    mask = np.broadcast_to(ramp if left_right else ramp[:, None], (a.height, a.width))
    return Image.composite(b, a, Image.fromarray((mask * 255).round().astype(np.uint8)))
