"""The given part of a completed picture: put it on a canvas, and encode it with a mask of the known cells.

Knows pictures, masks and a VQGAN; nothing about how the rest is sampled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vqtools.core.errors import UserError
from vqtools.media.image import flip_picture, format_size, resize_and_crop, to_tensor
from vqtools.models.gpt import GPT
from vqtools.models.vqgan import VQGAN
from vqtools.sampling.settings import SampleSettings
from vqtools.sampling.window import Cell, choose_flips

UNDRAWN_COLOUR = (127, 127, 127)


@dataclass(frozen=True)
class GivenPicture:
    """A given picture as the sampler needs it."""

    codes: Tensor  # (1, h, w), flipped
    known: Tensor  # (h, w), whether each code stays; flipped
    flipped: tuple[bool, bool]  # top to bottom, left to right


def encode_given(
    settings: SampleSettings, vqgan: VQGAN, gpt: GPT, device: torch.device, load: Callable[[str, str], Image.Image]
) -> GivenPicture:
    """Encode the picture to complete, on a canvas of the settings' size, flipped so that unknown cells come last.

    load: opens a picture, given the name of the setting and the path. UserError if picture, mask and size do not fit.
    """
    size, f = settings.size, vqgan.f
    width, height = (side // f for side in size)
    picture = load("complete", settings.complete)
    if settings.mask:
        canvas, known = resize_and_crop(picture, size), _known_outside(load("mask", settings.mask), picture, size, f)
    elif settings.keep == "whole":
        canvas, known = _place_on_canvas(picture, settings, f)
    else:
        canvas, known = resize_and_crop(picture, size), half_mask(settings.keep, height, width)
    upside_down, mirrored = choose_flips(((row, column) for row, column in known.nonzero().tolist()), height, width)
    # a transformer that reads the known codes as a condition has learned mirrored pictures, but none upside down
    flipped = (upside_down and gpt.config.mask_code < 0, mirrored)
    with torch.no_grad():
        codes = vqgan.encode(to_tensor(flip_picture(canvas, flipped)).to(device))
    return GivenPicture(codes, known.flip([axis for axis in (0, 1) if flipped[axis]]), flipped)


def half_mask(keep: str, height: int, width: int) -> Tensor:
    """A mask (h, w) that is true in the "upper", "lower", "left" or "right" half of a grid."""
    known = torch.zeros(height, width, dtype=torch.bool)
    rows = {"upper": slice(height // 2), "lower": slice(height // 2, None)}.get(keep, slice(None))
    columns = {"left": slice(width // 2), "right": slice(width // 2, None)}.get(keep, slice(None))
    known[rows, columns] = True
    return known


def cells_to_mask(cells: set[Cell], height: int, width: int) -> Tensor:
    """A mask (h, w) that is true in the given cells."""
    known = torch.zeros(height, width, dtype=torch.bool)
    if cells:
        rows, columns = torch.tensor(sorted(cells)).T
        known[rows, columns] = True
    return known


def _known_outside(mask: Image.Image, picture: Image.Image, size: tuple[int, int], f: int) -> Tensor:
    """The cells (h, w) that stay: those without a pixel where the mask is light."""
    if mask.size != picture.size:
        raise UserError(f"mask {format_size(mask)}: must have the picture's size, {format_size(picture)}")
    width, height = (side // f for side in size)
    light = np.asarray(resize_and_crop(mask, size).convert("L")).reshape(height, f, width, f)
    return torch.from_numpy(light.max((1, 3)) < 128)


def _place_on_canvas(picture: Image.Image, settings: SampleSettings, f: int) -> tuple[Image.Image, Tensor]:
    """The whole picture at the settings' place on a canvas, aligned to cells, and the cells (h, w) that it covers."""
    width, height = (side // f for side in settings.size)
    inner_width, inner_height = picture.width // f, picture.height // f
    room_x, room_y = width - inner_width, height - inner_height
    if min(inner_width, inner_height) < 1 or min(room_x, room_y) < 0:
        size = f"{settings.size[0]}x{settings.size[1]}"
        raise UserError(f"a picture of {format_size(picture)} does not fit whole into {size}; choose another size")
    left = {"left": 0, "right": room_x}.get(settings.place, room_x // 2)
    top = {"top": 0, "bottom": room_y}.get(settings.place, room_y // 2)
    canvas = Image.new("RGB", settings.size, UNDRAWN_COLOUR)
    canvas.paste(resize_and_crop(picture, (inner_width * f, inner_height * f)), (left * f, top * f))
    known = torch.zeros(height, width, dtype=torch.bool)
    known[top : top + inner_height, left : left + inner_width] = True
    return canvas, known
