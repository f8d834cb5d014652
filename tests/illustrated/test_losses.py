"""Each term of the loss, distances, and the game."""

from __future__ import annotations

import pytest
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
from vqtools.models.vqgan import VQGAN
from vqtools.pipelines.train_vqgan import load_perceptual_distance


@pytest.fixture(scope="module")
def lessons(oranges: Tensor) -> dict[str, AblationResult]:
    return {name: train_toy_vqvae(oranges, name, steps=120) for name in ABLATIONS}


def test_all_lessons_begin_alike_and_leave_torchs_own_draws_alone(oranges: Tensor) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, second = (train_toy_vqvae(oranges, name, steps=1) for name in ABLATIONS[:2])
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first.start, second.start)
    assert first.errors == second.errors  # the error before the first step moves anything
    with pytest.raises(ValueError, match="must be one of"):
        train_toy_vqvae(oranges, "no idea")


def test_without_the_codebook_term_the_codes_stay_where_they_were(lessons: dict[str, AblationResult]) -> None:
    still = lessons["no codebook term"]
    assert torch.equal(still.codebook, still.start)
    for name in ("all terms", "no reconstruction", "no commitment", "no sg"):
        assert not torch.equal(lessons[name].codebook, lessons[name].start), name


def test_without_reconstruction_the_decoder_learns_nothing(lessons: dict[str, AblationResult]) -> None:
    assert {name for name, lesson in lessons.items() if not lesson.decoder_moved} == {"no reconstruction"}
    assert lessons["all terms"].errors[-1] < 0.2 * lessons["all terms"].errors[0]
    assert lessons["no reconstruction"].errors[-1] > 5 * lessons["all terms"].errors[-1]


def test_without_commitment_the_encoder_runs_away_from_its_codes(lessons: dict[str, AblationResult]) -> None:
    assert lessons["no commitment"].distance > 5 * lessons["all terms"].distance


def test_without_sg_the_encoder_is_pulled_to_fewer_codes(lessons: dict[str, AblationResult]) -> None:
    pulled, free = lessons["no sg"], lessons["all terms"]
    assert pulled.distance < free.distance and pulled.used < free.used


def test_spoiled_pictures_are_equally_wrong_in_pixels_and_not_to_a_network(oranges: Tensor) -> None:
    found = distort_equally(oranges, error=0.02)
    assert set(found) == {"darker", "noise", "moved aside", "blurred"}
    for changed in found.values():
        assert float((changed - oranges).square().mean()) == pytest.approx(0.02, rel=0.02)
    distance = load_perceptual_distance("lite0")[0]
    seen = {name: float(distance(changed, oranges)) for name, changed in found.items()}
    assert seen["darker"] < seen["moved aside"] < seen["blurred"]


def test_shifts_and_blurs_do_what_they_say(oranges: Tensor) -> None:
    assert torch.equal(shift_right(oranges, 3.0)[..., 3:], oranges[..., :-3])
    flat = torch.full((1, 3, 9, 9), 0.25)
    assert torch.allclose(blur(flat, 1.3), flat, atol=1e-6)


def test_the_discriminator_learns_to_tell_real_from_made(fruit: Tensor, vqgan: VQGAN) -> None:
    match = train_discriminator(fruit, vqgan, steps=30)
    ahead = [real - fake for real, fake in zip(match.real, match.fake, strict=True)]
    assert sum(ahead[-5:]) / 5 > 0.05 > abs(ahead[0])
    assert match.discriminator(fruit[:1]).shape[1] == 1


def test_minimax_teaches_nothing_where_the_discriminator_is_sure_and_hinge_does() -> None:
    found = gan_loss_curves(61)
    minimax, hinge = (values for name, values in found.pull.items())
    assert float(minimax[0]) < 0.01 and float(minimax[-1]) > 0.99
    assert torch.allclose(hinge, torch.ones(()))
    beyond = found.logits < -1
    assert float(found.losses["D, hinge"][beyond].abs().max()) == 0
    assert float(found.losses["D, minimax"][beyond].min()) > 0


def test_the_adaptive_weight_counts_from_the_discriminators_start_and_balances(fruit: Tensor) -> None:
    told = train_toy_stage(fruit, steps=12)
    assert [i for i, report in enumerate(told) if "adaptive" in report] == list(range(4, 12))
    assert all(0 < report["adaptive"] <= 1e4 for report in told[4:])
    assert told[-1]["pixel"] < told[0]["pixel"]


def test_the_figures_are_drawn(oranges: Tensor, fruit: Tensor, vqgan: VQGAN) -> None:
    drawings = [
        loss_ablation(oranges, steps=2),
        pixel_vs_perceptual(oranges, load_perceptual_distance("lite0")[0]),
        discriminator_maps(oranges, fruit, vqgan, steps=2),
        minimax_and_hinge(),
        adaptive_weight_curve(fruit, steps=6),
    ]
    assert all("<svg" in drawing.svg() for drawing in drawings)
