"""Losses: each term of the VQ loss turned off, and pixel against perceptual distance."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vqtools.illustrated.losses import (
    ABLATIONS,
    AblationResult,
    blur,
    distort_equally,
    loss_ablation,
    pixel_vs_perceptual,
    shift_right,
    train_toy_vqvae,
)
from vqtools.pipelines.train_vqgan import load_perceptual_distance


@pytest.fixture(scope="module")
def results(oranges: Tensor) -> dict[str, AblationResult]:
    return {name: train_toy_vqvae(oranges, name, steps=120) for name in ABLATIONS}


def test_ablations_start_from_the_same_weights_and_leave_the_global_generator_unchanged(oranges: Tensor) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, second = (train_toy_vqvae(oranges, name, steps=1) for name in ABLATIONS[:2])
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first.initial_codebook, second.initial_codebook)
    assert first.errors == second.errors  # the error before the first update
    with pytest.raises(ValueError, match="must be one of"):
        train_toy_vqvae(oranges, "no idea")


def test_without_the_codebook_term_the_codes_do_not_move(results: dict[str, AblationResult]) -> None:
    frozen = results["no codebook term"]
    assert torch.equal(frozen.codebook, frozen.initial_codebook)
    for name in ("all terms", "no reconstruction", "no commitment", "no sg"):
        assert not torch.equal(results[name].codebook, results[name].initial_codebook), name


def test_without_reconstruction_the_decoder_does_not_change(results: dict[str, AblationResult]) -> None:
    assert {name for name, result in results.items() if not result.decoder_changed} == {"no reconstruction"}
    assert results["all terms"].errors[-1] < 0.2 * results["all terms"].errors[0]
    assert results["no reconstruction"].errors[-1] > 5 * results["all terms"].errors[-1]


def test_without_commitment_the_latents_drift_away_from_their_codes(results: dict[str, AblationResult]) -> None:
    assert results["no commitment"].distance > 5 * results["all terms"].distance


def test_without_the_stop_gradient_fewer_codes_are_used(results: dict[str, AblationResult]) -> None:
    without, full = results["no sg"], results["all terms"]
    assert without.distance < full.distance and without.used < full.used


def test_distortions_of_equal_pixel_error_differ_in_perceptual_distance(oranges: Tensor) -> None:
    distorted = distort_equally(oranges, error=0.02)
    assert set(distorted) == {"darker", "noise", "shifted", "blurred"}
    for changed in distorted.values():
        assert float((changed - oranges).square().mean()) == pytest.approx(0.02, rel=0.02)
    perceptual = load_perceptual_distance("lite0")[0]
    distances = {name: float(perceptual(changed, oranges)) for name, changed in distorted.items()}
    assert distances["darker"] < distances["shifted"] < distances["blurred"]


def test_a_shift_moves_pixels_and_a_blur_keeps_a_constant_image(oranges: Tensor) -> None:
    assert torch.equal(shift_right(oranges, 3.0)[..., 3:], oranges[..., :-3])
    constant = torch.full((1, 3, 9, 9), 0.25)
    assert torch.allclose(blur(constant, 1.3), constant, atol=1e-6)


def test_the_figures_are_drawn(oranges: Tensor) -> None:
    assert "<svg" in loss_ablation(oranges, steps=2).svg()
    assert "<svg" in pixel_vs_perceptual(oranges, load_perceptual_distance("lite0")[0]).svg()
