"""The rarer augmentations, and the ways to choose cutouts."""

from __future__ import annotations

import pytest
import torch

from vqtools.painting.augment import EXTRA_CODES, draw_extra
from vqtools.painting.cutouts import apply_cutouts, draw_cutouts
from vqtools.painting.parsers import ALL_AUGMENTATIONS, AUGMENTATIONS

RARE = sorted(EXTRA_CODES)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def views(codes: str, count: int = 40, method: str = "random", image: torch.Tensor | None = None) -> torch.Tensor:
    image = torch.rand(1, 3, 40, 48, generator=generator(1)) if image is None else image
    return apply_cutouts(image, draw_cutouts(generator(), count, 40, 48, side=24, augment=codes, method=method))


@pytest.mark.parametrize("code", RARE)
def test_each_code_changes_some_cutouts_and_not_the_others(code: str) -> None:
    plain, changed = views(""), views(code)
    same = (plain - changed).abs().amax((1, 2, 3)) < 1e-4
    chance = 0.5 if code in ("Cr", "Re") else 0.7
    assert abs(1 - same.float().mean() - chance) < 0.25
    usual = draw_cutouts(generator(), 40, 40, 48, side=24)
    with_it = draw_cutouts(generator(), 40, 40, 48, side=24, augment=f"{AUGMENTATIONS} {code}")
    assert torch.equal(usual.homography, with_it.homography) and torch.equal(usual.noise_seed, with_it.noise_seed)


def test_the_generator_advances_equally_for_all_codes() -> None:
    states = []
    for codes in ("", AUGMENTATIONS, ALL_AUGMENTATIONS):
        source, before = generator(), torch.get_rng_state()
        apply_cutouts(
            torch.rand(1, 3, 16, 16, generator=generator()), draw_cutouts(source, 5, 16, 16, 8, augment=codes)
        )
        states.append(source.get_state())
        assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(state, states[0]) for state in states)


def test_grouping_changes_no_augmented_cutout() -> None:
    image = torch.rand(1, 3, 40, 48, generator=generator(1))
    cuts = draw_cutouts(generator(), 7, 40, 48, side=16, augment=ALL_AUGMENTATIONS, method="pooled")
    whole = apply_cutouts(image, cuts)
    parts = [apply_cutouts(image, cuts, slice(first, first + 3)) for first in range(0, 7, 3)]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-5, rtol=0)


def test_the_gradient_through_every_augmentation_is_the_derivative() -> None:
    image = torch.rand(1, 3, 12, 12, generator=generator()).requires_grad_()
    cuts = draw_cutouts(generator(3), 4, 12, 12, side=6, augment=ALL_AUGMENTATIONS)
    direction = torch.randn(image.shape, generator=generator(1))
    seen = apply_cutouts(image, cuts)
    weights = torch.randn(seen.shape, generator=generator(2))
    (gradient,) = torch.autograd.grad((seen * weights).sum(), image)
    moved = apply_cutouts(image.detach() + direction, cuts) - apply_cutouts(image.detach(), cuts)
    assert float((gradient * direction).sum()) == pytest.approx(float((moved * weights).sum()), rel=1e-3)


def test_an_erased_box_is_black_and_of_the_documented_size() -> None:
    seen = views("Er", 200, image=torch.ones(1, 3, 40, 48))
    share = (seen[:, 0] == 0).float().mean((1, 2))
    erased = share[share > 0]
    assert erased.min() > 0.05 and erased.max() < 0.45
    assert abs(len(erased) / 200 - 0.7) < 0.1


def test_rotations_are_of_at_most_fifteen_degrees() -> None:
    move = draw_extra(torch.arange(500), frozenset({"Ro"})).move
    angle = torch.atan2(move[:, 1, 0], move[:, 0, 0]).rad2deg()
    assert 14 < angle.abs().max() <= 15.001 and abs((angle != 0).float().mean() - 0.7) < 0.06


def test_crops_stay_inside_the_cutout() -> None:
    for code, least in (("Cr", 0.8), ("Re", 0.3)):
        move = draw_extra(torch.arange(500), frozenset({code})).move
        for axis in (0, 1):
            half, centre = move[:, axis, axis], move[:, axis, 2]
            assert half.min() >= least * 0.8 and half.max() <= 1
            assert (centre.abs() + half).max() <= 1 + 1e-5


def test_methods_determine_the_sizes() -> None:
    def sizes(method: str) -> torch.Tensor:
        cuts = draw_cutouts(generator(), 400, 100, 200, side=20, augment="", method=method)
        return 2 * cuts.homography[:, 1, 1] * 100

    assert torch.allclose(sizes("whole"), torch.tensor(100.0))
    overview = sizes("overview")
    assert torch.allclose(overview[::4], torch.tensor(100.0))
    rest = overview[torch.arange(400) % 4 != 0]
    assert rest.min() >= 20 - 1e-3 and rest.max() <= 50 + 1e-3
    assert torch.equal(sizes("pooled"), sizes("random"))


def test_pooling_keeps_a_bright_pixel_that_averaging_loses() -> None:
    image = torch.zeros(1, 3, 96, 96)
    image[..., 48, 48] = 1
    seen = {
        method: apply_cutouts(
            image, draw_cutouts(generator(), 4, 96, 96, side=12, augment="", cut_power=1e-3, method=method)
        ).amax()
        for method in ("random", "pooled")
    }
    assert seen["pooled"] > 5 * seen["random"]


@pytest.mark.parametrize("size", [(8, 12), (64, 16)])
def test_tiny_pictures_work_with_every_method_and_code(size: tuple[int, int]) -> None:
    for method in ("random", "pooled", "overview", "whole"):
        cuts = draw_cutouts(generator(), 5, *size, side=16, augment=ALL_AUGMENTATIONS, method=method)
        seen = apply_cutouts(torch.rand(1, 3, *size, generator=generator()), cuts)
        assert seen.shape == (5, 3, 16, 16) and seen.isfinite().all()
