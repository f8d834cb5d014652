"""Optical flow: a known shift is found, hidden pixels have low confidence, interpolation lies between two images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from vqtools.media.image import to_tensor
from vqtools.media.optical_flow import estimate_flow, flow_confidence, interpolate_by_flow, warp_by_flow

Make = Callable[..., Any]


def pair(shapes: Make, apart: int) -> tuple[torch.Tensor, torch.Tensor]:
    pictures = shapes(apart + 1)
    return to_tensor(pictures[0]), to_tensor(pictures[-1])


def test_a_shift_is_found_and_a_still_background_has_no_flow(shapes: Make) -> None:
    first, second = pair(shapes, 2)
    flow = estimate_flow(first, second)
    assert flow.shape == (1, 64, 96, 2)
    assert (flow[0, 24:40, 14:30].mean((0, 1)) - torch.tensor([4.0, 0.0])).abs().max() < 0.7
    assert flow[0, 50:, 60:].abs().mean() < 0.3
    assert torch.equal(estimate_flow(first, first), torch.zeros(1, 64, 96, 2))


def test_an_image_smaller_than_dis_supports_has_a_flow_too() -> None:
    blobs = torch.rand(1, 1, 8, 14, generator=torch.Generator().manual_seed(0)) * 2 - 1
    blobs = F.interpolate(blobs, scale_factor=2, mode="bicubic").clamp(-1, 1).expand(1, 3, 16, 28)
    flow = estimate_flow(blobs[..., 2:26], blobs[..., 1:25])
    assert flow.shape == (1, 16, 24, 2)
    assert flow[0, 4:12, 6:18].mean((0, 1)).tolist() == pytest.approx([1.0, 0.0], abs=0.3)


def test_warping_restores_the_first_image_and_hidden_pixels_have_low_confidence(shapes: Make) -> None:
    first, second = pair(shapes, 2)
    there, back = estimate_flow(first, second), estimate_flow(second, first)
    carried = warp_by_flow(second, there)
    assert (carried - first)[..., 24:40, 14:30].abs().mean() < 0.08
    sure = flow_confidence(there, back, first, second)
    assert sure.shape == (1, 1, 64, 96) and sure.min() >= 0 and sure.max() <= 1
    square = sure[0, 0, 24:40, 14:30].mean()
    assert square > 0.7
    assert sure[0, 0, 24:40, 35:37].mean() < 0.6 * square  # ground that the square has covered since


def test_flow_interpolation_is_closer_to_the_true_frame_than_blending(shapes: Make) -> None:
    first, second = pair(shapes, 2)
    middle = to_tensor(shapes(2)[1])
    moved = (interpolate_by_flow(first, second, 0.5) - middle)[..., 22:42, 16:34].abs().mean()
    blended = ((first + second) / 2 - middle)[..., 22:42, 16:34].abs().mean()
    assert moved < 0.5 * blended
    assert interpolate_by_flow(first, second, 0) is first and interpolate_by_flow(first, second, 1) is second
