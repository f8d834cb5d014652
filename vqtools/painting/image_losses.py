"""Losses on the picture itself: total variation, colourfulness, distance to a palette.

Knows pixels; nothing about networks or text. Pictures are (1, 3, H, W), in about [0, 1].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vqtools.painting.parsers import parse_palette
from vqtools.painting.settings import PaintSettings


def total_variation(picture: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels, along rows plus along columns."""
    across, down = picture[..., 1:] - picture[..., :-1], picture[..., 1:, :] - picture[..., :-1, :]
    return across.square().mean() + down.square().mean()


def colourfulness(picture: Tensor) -> Tensor:
    """Mean root-mean-square distance of the three channels from their mean; 0 for a grey picture."""
    difference = picture - picture.mean(1, keepdim=True)
    return (difference.square().mean(1) + 1e-8).sqrt().mean()  # the square root's slope at 0 is infinite


def palette_distance(picture: Tensor, colours: list[tuple[int, int, int]]) -> Tensor:
    """Mean squared distance of each pixel to the nearest of the colours (red, green, blue in [0, 255])."""
    nearest: Tensor | None = None
    for colour in colours:  # one at a time: all at once would need a copy of the picture for each
        distance = (picture - picture.new_tensor(colour).view(1, 3, 1, 1) / 255).square().mean(1)
        nearest = distance if nearest is None else torch.minimum(nearest, distance)
    assert nearest is not None
    return nearest.mean()


def compute_image_losses(picture: Tensor, settings: PaintSettings) -> dict[str, Tensor]:
    """The weighted losses that the settings ask for, by name; by default there are none."""
    losses = {}
    if settings.smoothness:
        losses["smoothness"] = settings.smoothness * total_variation(picture)
    if settings.saturation:
        losses["saturation"] = -settings.saturation * colourfulness(picture)
    if settings.palette.strip() and settings.palette_weight:
        losses["palette"] = settings.palette_weight * palette_distance(picture, parse_palette(settings.palette))
    return losses


def image_losses_and_gradient(picture: Tensor, settings: PaintSettings) -> tuple[dict[str, float], Tensor | None]:
    """Values of :func:`compute_image_losses`, and their sum's gradient on the picture; None if there are no losses."""
    with torch.enable_grad():
        leaf = picture.detach().requires_grad_()
        losses = compute_image_losses(leaf, settings)
        if not losses:
            return {}, None
        total: Any = sum(losses.values())
    (gradient,) = torch.autograd.grad(total, leaf)
    return {name: float(value.detach()) for name, value in losses.items()}, gradient
