"""Adversarial training: the discriminator, hinge and minimax losses, and the adaptive weight."""

from __future__ import annotations

import torch
from torch import Tensor

from vqtools.illustrated.adversarial import (
    adaptive_weight_curve,
    discriminator_maps,
    gan_loss_curves,
    minimax_and_hinge,
    train_discriminator,
    train_toy_stage,
)
from vqtools.models.vqgan import VQGAN


def test_the_discriminator_learns_to_tell_real_from_reconstructed(fruit: Tensor, vqgan: VQGAN) -> None:
    run = train_discriminator(fruit, vqgan, steps=30)
    margins = [real - fake for real, fake in zip(run.real, run.fake, strict=True)]
    assert sum(margins[-5:]) / 5 > 0.05 > abs(margins[0])
    assert run.discriminator(fruit[:1]).shape[1] == 1


def test_only_the_minimax_gradient_vanishes_where_the_discriminator_is_certain() -> None:
    curves = gan_loss_curves(61)
    minimax, hinge = curves.gradient_magnitude.values()
    assert float(minimax[0]) < 0.01 and float(minimax[-1]) > 0.99
    assert torch.allclose(hinge, torch.ones(()))
    beyond_margin = curves.logits < -1
    assert float(curves.losses["D, hinge"][beyond_margin].abs().max()) == 0
    assert float(curves.losses["D, minimax"][beyond_margin].min()) > 0


def test_the_adaptive_weight_is_reported_once_the_discriminator_joins(fruit: Tensor) -> None:
    reports = train_toy_stage(fruit, steps=12)
    assert [i for i, report in enumerate(reports) if "adaptive" in report] == list(range(4, 12))
    assert all(0 < report["adaptive"] <= 1e4 for report in reports[4:])
    assert reports[-1]["pixel"] < reports[0]["pixel"]


def test_the_figures_are_drawn(oranges: Tensor, fruit: Tensor, vqgan: VQGAN) -> None:
    figures = [discriminator_maps(oranges, fruit, vqgan, steps=2), minimax_and_hinge()]
    figures.append(adaptive_weight_curve(fruit, steps=6))
    assert all("<svg" in figure.svg() for figure in figures)
