"""What may be asked of a picture beside its prompts: evenness, colourfulness, a palette, mirrored halves.

Knows pixels; nothing about networks or text. Pictures are (1, 3, H, W), about [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor

from vqtools.painting.parsers import parse_palette
from vqtools.painting.settings import PaintSettings


def total_variation(picture: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels, across and down."""
    across, down = picture[..., 1:] - picture[..., :-1], picture[..., 1:, :] - picture[..., :-1, :]
    return across.square().mean() + down.square().mean()


def colourfulness(picture: Tensor) -> Tensor:
    """Mean distance of the channels from their grey; 0 for a picture without colour."""
    away = picture - picture.mean(1, keepdim=True)
    return (away.square().mean(1) + 1e-8).sqrt().mean()  # the root's slope at 0 is infinite


def palette_distance(picture: Tensor, colours: list[tuple[int, int, int]]) -> Tensor:
    """Mean squared distance of each pixel to the nearest of the colours (red, green, blue from 0 to 255)."""
    nearest: Tensor | None = None
    for colour in colours:  # one at a time: all at once would hold the picture as often as there are colours
        away = (picture - picture.new_tensor(colour).view(1, 3, 1, 1) / 255).square().mean(1)
        nearest = away if nearest is None else torch.minimum(nearest, away)
    assert nearest is not None
    return nearest.mean()


def compute_image_losses(picture: Tensor, settings: PaintSettings) -> dict[str, Tensor]:
    """The losses by name that the settings ask for: none in the usual case."""
    found = {}
    if settings.smoothness:
        found["smoothness"] = settings.smoothness * total_variation(picture)
    if settings.saturation:
        found["saturation"] = -settings.saturation * colourfulness(picture)
    if settings.palette.strip() and settings.palette_weight:
        found["palette"] = settings.palette_weight * palette_distance(picture, parse_palette(settings.palette))
    return found
