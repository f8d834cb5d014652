"""Areas of a picture, as a brush or a box gives them: where a prompt counts, what stays, what is painted anew.

Knows masks and shares of a picture's sides; nothing about prompts or files on disk. A mask is kept as a small grey PNG,
so that a journal can hold it, and is the same bits whether it was just drawn or comes out of a journal.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vqtools.core.errors import UserError

_MAX_SIDE = 512  # pixels; a finer brush than this can't be told from a coarser one on the grid of codes
_MAX_FILE_BYTES = 2**20


@dataclass(frozen=True)
class Mask:
    """An area: 1 inside, 0 outside, soft edges between."""

    png: bytes

    @cached_property
    def name(self) -> str:
        """The hash of its content, as a journal names it."""
        return hashlib.sha256(self.png).hexdigest()

    @classmethod
    def of(cls, source: Any, size: tuple[int, int]) -> Mask:
        """A mask for a picture of a size (width, height).

        source: a PIL picture (white counts; transparency does not), an array or a tensor (H, W) in [0, 1] or of bool,
        or a box (left, top, right, bottom) in pixels. It may be of another size in the same proportions.
        UserError where it covers nothing of the picture or has other proportions.
        """
        grey = _draw_box(source, size) if isinstance(source, tuple) else _to_greyscale(source)
        width, height = grey.size
        if abs(width * size[1] - height * size[0]) > 0.02 * width * size[1] + size[0] + size[1]:
            raise UserError(
                f"a mask of {width}x{height} for a picture of {size[0]}x{size[1]}: draw it in the picture's proportions"
            )
        scale = min(1.0, _MAX_SIDE / max(size))
        grey = grey.resize((max(1, round(size[0] * scale)), max(1, round(size[1] * scale))), Image.Resampling.BOX)
        if not (np.asarray(grey) >= 128).any():
            raise UserError(
                "the region lies outside the picture or covers nothing of it; paint over what it should hold"
            )
        data = io.BytesIO()
        grey.save(data, "PNG", optimize=True)
        return cls(data.getvalue())

    @classmethod
    def read(cls, png: bytes) -> Mask:
        """A mask from a journal, which may come from anywhere: checked before it is decoded."""
        try:
            if len(png) > _MAX_FILE_BYTES:
                raise ValueError("too large")
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
                    if max(picture.size) > _MAX_SIDE or picture.mode != "L":
                        raise ValueError(f"{picture.mode} {picture.size}")
                    picture.load()
        except Exception:  # Pillow raises what it likes on a broken file
            raise UserError("a mask in the journal is no grey PNG of at most 512 pixels a side") from None
        return cls(png)

    def on(self, height: int, width: int) -> Tensor:
        """(height, width) in [0, 1]."""
        values = torch.from_numpy(np.array(Image.open(io.BytesIO(self.png)), dtype=np.float32))[None, None] / 255
        if values.shape[-2:] == (height, width):
            return values[0, 0]
        smaller = height < values.shape[2] or width < values.shape[3]
        return F.interpolate(values, size=(height, width), mode="bilinear", antialias=smaller)[0, 0].clamp(0, 1)

    def complement(self) -> Mask | None:
        """Everything else; None where that is nothing."""
        rest = 255 - np.array(Image.open(io.BytesIO(self.png)))
        return Mask.of(rest, rest.shape[::-1]) if (rest >= 128).any() else None


def bounding_box(mask: Tensor) -> tuple[slice, slice]:
    """The rows and columns that a mask (H, W) touches."""
    rows, columns = (mask >= 0.5).any(1).nonzero(), (mask >= 0.5).any(0).nonzero()
    if not len(rows):  # so thin that scaling it down has lost it
        rows, columns = (mask > 0).any(1).nonzero(), (mask > 0).any(0).nonzero()
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def covered_cells(mask: Tensor, rows: int, columns: int) -> Tensor:
    """The cells (rows, columns) of the grid of codes of which a mask (H, W) covers at least half, as bool."""
    return F.adaptive_avg_pool2d(mask[None, None], (rows, columns))[0, 0] >= 0.5


def _draw_box(box: tuple[Any, ...], size: tuple[int, int]) -> Image.Image:
    left, top, right, bottom = (round(float(edge)) for edge in box)
    if not 0 <= left < right <= size[0] or not 0 <= top < bottom <= size[1]:
        raise UserError(
            f"the region {left},{top} to {right},{bottom} lies outside the picture of {size[0]}x{size[1]} or is empty"
        )
    grey = Image.new("L", size)
    grey.paste(255, (left, top, right, bottom))
    return grey


def _to_greyscale(source: Any) -> Image.Image:
    if isinstance(source, Image.Image):
        if "A" in source.getbands():
            source = Image.alpha_composite(Image.new("RGBA", source.size, (0, 0, 0, 255)), source.convert("RGBA"))
        grey: Image.Image = source.convert("L")
        return grey
    values = source.detach().cpu().numpy() if isinstance(source, Tensor) else np.asarray(source)
    if values.ndim != 2 or 0 in values.shape:
        raise UserError(f"a mask of shape {tuple(values.shape)}: rows and columns are expected")
    if values.dtype != np.uint8:
        values = np.nan_to_num(np.clip(values.astype(np.float64), 0, 1) * 255).round().astype(np.uint8)
    return Image.fromarray(values)
