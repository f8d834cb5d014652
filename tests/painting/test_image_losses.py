"""Losses on the picture itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from vqtools.painting.image_losses import (
    colourfulness,
    compute_image_losses,
    image_losses_and_gradient,
    palette_distance,
    total_variation,
)
from vqtools.painting.painter import Painter
from vqtools.painting.settings import PaintSettings

Make = Callable[..., Painter]


def test_losses_have_their_documented_values() -> None:
    flat, stripes = torch.full((1, 3, 4, 4), 0.5), torch.tensor([0.0, 1, 0, 1]).expand(1, 3, 4, 4)
    red = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert total_variation(flat) == 0 and total_variation(stripes) == 1
    assert colourfulness(stripes) < 1e-3 < colourfulness(red)
    assert palette_distance(red, [(255, 0, 0), (0, 0, 0)]) == 0
    assert palette_distance(flat, [(255, 255, 255)]) == pytest.approx(0.25)
    assert compute_image_losses(red, PaintSettings()) == {}
    settings = PaintSettings(smoothness=2, saturation=3, palette="#ffffff", palette_weight=0.5)
    assert {name: float(value) for name, value in compute_image_losses(red, settings).items()} == pytest.approx(
        {"smoothness": 0, "saturation": -3 * (2 / 9) ** 0.5, "palette": 0.5 * 2 / 3}, rel=1e-3
    )


def test_each_loss_changes_the_picture(painter: Make) -> None:
    def after(**fields: object) -> torch.Tensor:
        painting = painter(iterations=40, learning_rate=0.3, ema=0, seed=2, **fields)
        for _ in range(25):
            painting.step()
        return (painting.image().unsqueeze(0) + 1) / 2

    plain = after()
    assert total_variation(after(smoothness=100)) < 0.8 * total_variation(plain)
    assert colourfulness(after(saturation=-30)) < 0.9 * colourfulness(plain)
    colours = [(255, 0, 0), (0, 0, 0)]
    assert palette_distance(after(palette="#ff0000 #000000", palette_weight=30), colours) < 0.9 * palette_distance(
        plain, colours
    )


def test_the_gradient_is_that_of_the_sum_of_the_losses() -> None:
    picture = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    settings = PaintSettings(smoothness=2, saturation=3)
    losses, gradient = image_losses_and_gradient(picture, settings)
    assert gradient is not None and gradient.shape == picture.shape
    shifted, _ = image_losses_and_gradient(picture - 1e-3 * gradient, settings)
    expected = sum(losses.values()) - 1e-3 * float(gradient.square().sum())
    assert sum(shifted.values()) == pytest.approx(expected, abs=1e-4)
    assert image_losses_and_gradient(picture, PaintSettings()) == ({}, None)
