"""Masks: areas of a picture to which a prompt is confined, which are protected, or which are repainted.

Knows pixels and proportions; nothing about prompts or files on disk. A mask is kept as a small greyscale PNG so that an
edit log can hold it, and has the same bits whether it was just drawn or read from an edit log.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vqtools.core.errors import UserError

_MAX_SIDE = 512  # pixels; on the grid of codes a finer mask makes no difference
_MAX_FILE_BYTES = 2**20


@dataclass(frozen=True)
class Mask:
    """An area: 1 inside, 0 outside, soft edges between."""

    png: bytes

    @cached_property
    def name(self) -> str:
        """SHA-256 of the PNG in hex, the mask's name in an edit log."""
        return hashlib.sha256(self.png).hexdigest()

    @classmethod
    def from_source(cls, source: Any, size: tuple[int, int]) -> Mask:
        """A mask for a picture of a size (width, height) in pixels.

        source: a PIL picture (white is inside, transparent is outside), an array or a tensor (H, W) in [0, 1] or of
        bool, or a box (left, top, right, bottom) in pixels. It may have another size with the same proportions.
        Raises UserError if it covers nothing of the picture or has other proportions.
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
                "the region lies outside the picture or covers nothing of it; paint over the area it should cover"
            )
        data = io.BytesIO()
        grey.save(data, "PNG", optimize=True)
        return cls(data.getvalue())

    @classmethod
    def from_png(cls, png: bytes) -> Mask:
        """A mask from an edit log. Logs come from files of strangers, so the PNG is checked before it is decoded."""
        try:
            if len(png) > _MAX_FILE_BYTES:
                raise ValueError("too large")
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
                    if max(picture.size) > _MAX_SIDE or picture.mode != "L":
                        raise ValueError(f"{picture.mode} {picture.size}")
                    picture.load()
        except Exception:  # Pillow raises all kinds of errors on a broken file
            raise UserError(
                f"a mask in the edit log is not a greyscale PNG of at most {_MAX_SIDE} pixels a side"
            ) from None
        return cls(png)

    def at_size(self, height: int, width: int) -> Tensor:
        """The mask as a tensor (height, width) in [0, 1], on the CPU."""
        values = torch.from_numpy(np.array(Image.open(io.BytesIO(self.png)), dtype=np.float32))[None, None] / 255
        if values.shape[-2:] == (height, width):
            return values[0, 0]
        smaller = height < values.shape[2] or width < values.shape[3]
        return F.interpolate(values, size=(height, width), mode="bilinear", antialias=smaller)[0, 0].clamp(0, 1)

    def complement(self) -> Mask | None:
        """The area outside; None if there is nothing outside."""
        outside = 255 - np.array(Image.open(io.BytesIO(self.png)))
        return Mask.from_source(outside, outside.shape[::-1]) if (outside >= 128).any() else None


def set_mask(masks: dict[str, Mask], key: str, source: Any, size: tuple[int, int]) -> None:
    """Set or replace a mask, from a Mask or a source of :meth:`Mask.from_source`; None removes it."""
    if source is None:
        masks.pop(key, None)
    else:
        masks[key] = source if isinstance(source, Mask) else Mask.from_source(source, size)


def masks_to_state(masks: Mapping[str, Mask]) -> dict[str, str]:
    """Masks as PNGs in hex, for a state."""
    return {key: mask.png.hex() for key, mask in masks.items()}


def masks_from_state(state: Mapping[str, str]) -> dict[str, Mask]:
    """Masks from :func:`masks_to_state`."""
    return {key: Mask.from_png(bytes.fromhex(png)) for key, png in state.items()}


def bounding_box(mask: Tensor) -> tuple[slice, slice]:
    """Rows and columns of the smallest box around a mask (H, W)."""
    rows, columns = (mask >= 0.5).any(1).nonzero(), (mask >= 0.5).any(0).nonzero()
    if not len(rows):  # too thin to survive being scaled down
        rows, columns = (mask > 0).any(1).nonzero(), (mask > 0).any(0).nonzero()
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def covered_cells(mask: Tensor, rows: int, columns: int) -> Tensor:
    """Cells of the grid of codes at least half covered by a mask (H, W), as bool (rows, columns)."""
    return F.adaptive_avg_pool2d(mask[None, None], (rows, columns))[0, 0] >= 0.5


def _draw_box(box: tuple[Any, ...], size: tuple[int, int]) -> Image.Image:
    left, top, right, bottom = (round(float(edge)) for edge in box)
    if not 0 <= left < right <= size[0] or not 0 <= top < bottom <= size[1]:
        raise UserError(
            f"the region {left},{top} to {right},{bottom} is empty or lies outside the picture of {size[0]}x{size[1]}"
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
        raise UserError(f"a mask of shape {tuple(values.shape)}: expected (rows, columns)")
    if values.dtype != np.uint8:
        values = np.nan_to_num(np.clip(values.astype(np.float64), 0, 1) * 255).round().astype(np.uint8)
    return Image.fromarray(values)
