"""The CLIP objective: regions, several CLIPs, and the order in which random numbers are drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from vqtools.painting.cutouts import draw_cutouts
from vqtools.painting.painter import Painter

Make = Callable[..., Painter]
LEFT = (0, 0, 12, 16)


@pytest.mark.parametrize("prompt", ["a red apple", "a red apple | a blue sea:0.5"])
def test_a_prompt_changes_only_its_region(painter: Make, prompt: str) -> None:
    painting = painter(prompt=prompt, size=(24, 16))
    for index in range(prompt.count("|") + 1):
        painting.set_region(index, LEFT)
    picture = painting.decode(painting.z.detach()).clamp(0, 1)
    losses, gradient = painting._clip_losses(picture)
    assert (losses != 0).all()
    assert (gradient[..., :12] != 0).any() and (gradient[..., 12:] == 0).all()


def test_a_region_of_the_whole_picture_equals_no_region(painter: Make) -> None:
    bare, masked = painter(prompt="a red apple"), painter(prompt="a red apple")
    masked.set_region(0, (0, 0, 24, 16))
    assert masked.step()["loss"] == pytest.approx(bare.step()["loss"], rel=1e-5)
    masked.set_region(0, None)
    bare.z.data.copy_(masked.z.data)
    assert masked.step() == bare.step()


def test_prompts_with_regions_each_lower_their_loss(painter: Make) -> None:
    painting = painter(prompt="red | blue", iterations=60, cutouts=6)
    painting.set_region(0, LEFT)
    scalars = [painting.step() for _ in range(50)]
    for name in ("red", "blue"):
        values = [losses[name] for losses in scalars]
        assert sum(values[-8:]) < sum(values[:8])


def test_the_loss_is_the_weighted_mean_over_clips(painter: Make, tiny_clip: Any) -> None:
    clips = [tiny_clip(), tiny_clip(seed=5)]
    one, other, both = (
        painter(clips=clips, weights=weights, augment="", cut_method="whole", size=(16, 16)).gradient()[0]["loss"]
        for weights in ((1, 1e-9), (1e-9, 1), (3, 1))
    )
    assert both == pytest.approx(0.75 * one + 0.25 * other, rel=1e-5)


@pytest.mark.parametrize("seamless", [False, True])
def test_random_numbers_are_drawn_for_the_seam_and_then_for_each_clip(
    painter: Make, tiny_clip: Any, seamless: bool
) -> None:
    painting = painter(clips=[tiny_clip(), tiny_clip(size=8)], seamless=seamless, cutouts=3)
    generator = torch.Generator()
    generator.set_state(painting.generator.get_state())
    if seamless:
        torch.rand(2, generator=generator)
    for clip in painting.clips:
        draw_cutouts(generator, 3, 16, 24, clip.size)
    painting.step()
    assert torch.equal(painting.generator.get_state(), generator.get_state())
