"""Colour statistics and sharpness of images."""

from __future__ import annotations

import torch

from vqtools.media.colour import lab_statistics, match_colours, sharpen


def test_matching_an_image_to_itself_changes_nothing() -> None:
    image = torch.rand(1, 3, 8, 8) * 2 - 1
    assert torch.allclose(match_colours(image, lab_statistics(image)), image, atol=1e-4)


def test_matching_gives_an_image_the_statistics_of_another() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 32, 32, generator=generator) * 0.4 - 0.2
    target = lab_statistics(torch.rand(1, 3, 32, 32, generator=generator) * 0.5 + 0.1)
    assert (lab_statistics(match_colours(image, target)) - target).abs().max() < 1


def test_sharpening_increases_contrast() -> None:
    image = torch.rand(1, 3, 32, 32) * 0.5
    assert sharpen(image, 0.3).std() > image.std() * 1.05
    assert torch.equal(sharpen(image, 0.0), image)
