"""Camera motion with parallax: a plane moves by the homography, and near pixels move more."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vqtools.animation import camera
from vqtools.animation.camera import Motion
from vqtools.animation.depth import disparity_to_distance, source_points_by_depth, warp_by_depth


def spots() -> Tensor:
    noise = torch.rand(1, 3, 12, 18, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return torch.nn.functional.interpolate(noise, size=(64, 96), mode="bicubic").clamp(-1, 1)


@pytest.mark.parametrize(
    "motion",
    [Motion(zoom=1.1, angle=4), Motion(translation_x=5, translation_y=-2), Motion(translation_z=30, rotation_3d_y=3)],
)
def test_equal_distances_give_the_homography(motion: Motion) -> None:
    image = spots()
    expected = camera.warp(image, camera.homography(motion, 96, 64))
    warped = warp_by_depth(image, motion, torch.ones(1, 1, 64, 96))
    assert (warped - expected)[..., 4:-4, 4:-4].abs().max() < 0.02


def test_near_pixels_move_more() -> None:
    far = torch.full((1, 1, 64, 96), 2.0)
    far[..., 32:, :] = 0.5
    points = source_points_by_depth(Motion(translation_x=6.0), far)
    x = torch.arange(96) + 0.5
    assert torch.allclose(points[0, 8, :, 0], x.double() - 3, atol=0.1)
    assert torch.allclose(points[0, 60, 20:76, 0], x[20:76].double() - 12, atol=0.1)
    closer = source_points_by_depth(Motion(translation_z=20), far)  # towards the picture: the near part grows more
    assert closer[0, 60, 90, 0] < closer[0, 3, 90, 0] < 90.5


def test_no_motion_returns_the_image_itself() -> None:
    image = spots()
    assert warp_by_depth(image, Motion(), torch.rand(1, 1, 64, 96) + 0.5) is image


def test_distances_have_median_one_and_are_bounded() -> None:
    distance = disparity_to_distance(torch.rand(1, 1, 20, 20, generator=torch.Generator().manual_seed(1)) * 900)
    assert distance.median() == pytest.approx(1, abs=0.02) and distance.min() >= 0.5 and distance.max() <= 4
    assert torch.equal(disparity_to_distance(torch.full((1, 1, 4, 4), 7.0)), torch.ones(1, 1, 4, 4))
