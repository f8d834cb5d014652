"""The pictures of an octave zoom as a pyramid: views at any level, joints, loops."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from vqtools.animation.octave_pyramid import (
    close_loop,
    downscale,
    find_loop_offset,
    insert_centre,
    match_rims,
    render_level,
    zoom_about_centre,
)


def scene(level: float, side: int = 64) -> Tensor:
    """A continuous scene seen 2^level wide: smooth, and similar at every scale."""
    axis = (torch.arange(side) + 0.5) / side * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    radius, angle = (x.square() + y.square()).sqrt() + 1e-6, torch.atan2(y, x)
    rings = torch.cos(math.pi * (radius.log2() + level)) * torch.cos(2 * angle) * (radius.clamp(max=0.3) / 0.3)
    return torch.stack([rings, rings, rings])[None] * 0.8


def test_frames_show_the_scene_at_their_level() -> None:
    pictures = match_rims([scene(float(k)) for k in range(4)])
    for level in (0.0, 0.3, 0.5, 0.99, 1.0, 1.7, 3.0):
        view = render_level(pictures, level)
        error = (view - scene(level)).abs()
        assert error.mean() < 0.01, level
        assert error.max() < 0.35, level  # in the middle pixels, where the rings are finer than any pixel


def test_neighbouring_frames_differ_little_across_a_doubling() -> None:
    noise = [torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(k)) * 2 - 1 for k in range(4)]
    pictures = noise[:1]
    for outer in noise[1:]:
        pictures.append(insert_centre(outer, pictures[-1]))
    pictures = match_rims(pictures)
    places = [0.9 + 0.01 * i for i in range(21)]
    shots = [render_level(pictures, place) for place in places]
    steps = torch.tensor([(a - b).abs().mean() for a, b in pairwise(shots)])
    assert steps.max() < 1.5 * steps.median()
    assert torch.equal(render_level(pictures, 2.0), pictures[2])


def test_sharpness_does_not_jump_between_pictures() -> None:
    noise = [torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(k)) * 1.2 - 0.6 for k in range(4)]
    assert torch.equal(zoom_about_centre(noise[0], 1.0), noise[0])
    assert torch.allclose(zoom_about_centre(noise[0], 0.5)[..., 16:48, 16:48], downscale(noise[0]), atol=1e-5)
    pictures = noise[:1]
    for outer in noise[1:]:
        pictures.append(insert_centre(outer, pictures[-1]))
    matched = match_rims(pictures)
    for k in (1, 2, 3):
        jump = (render_level(matched, k - 1e-6) - render_level(matched, k)).abs()
        assert jump.mean() < 0.004, k  # of values from -1 to 1: half a step of 255


def test_the_centre_is_the_inner_picture_at_half_its_size() -> None:
    outer, inner = torch.zeros(1, 3, 32, 48), scene(0, 64)[..., :32, :48]
    out = insert_centre(outer, inner)
    assert torch.equal(out[..., 12:20, 18:30], downscale(inner)[..., 4:12, 6:18])
    assert not out[..., :8, :].any() and not out[..., :, :12].any()


def test_a_matched_picture_has_no_edge_against_the_wider_one() -> None:
    plain = [torch.full((1, 3, 64, 64), value) for value in (-0.8, 0.8)]
    pictures = [plain[0], insert_centre(plain[1], plain[0])]
    for level in (0.05, 0.5, 0.9):
        view = render_level(match_rims(pictures), level)[0, 0, 32]
        assert (view[1:] - view[:-1]).abs().max() < 0.6  # of a step of 1.6


def test_a_closed_loop_contains_itself() -> None:
    noise = [torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(k)) * 1.2 - 0.6 for k in range(3)]
    ring = close_loop(noise)
    for k in range(3):
        middle = ring[k][..., 26:38, 26:38] - downscale(ring[k - 1])[..., 10:22, 10:22]
        assert middle.abs().max() < 0.02, k
    matched = match_rims(ring, ring=True)
    for k in (1, 2, 3):  # where it closes is a doubling like the others
        assert (
            render_level(matched, k - 1e-6, ring=True) - render_level(matched, k % 3, ring=True)
        ).abs().mean() < 0.004, k


def test_the_loop_seam_changes_no_more_than_neighbouring_frames() -> None:
    worst = 0.0
    for seed, count in ((0, 12), (1, 24), (2, 25), (3, 40)):
        source = torch.Generator().manual_seed(seed)
        soft = [
            F.interpolate(torch.rand(1, 3, 8, 8, generator=source) * 1.6 - 0.8, size=64, mode="bicubic")
            for _ in range(3)
        ]
        matched = match_rims(close_loop(soft), ring=True)
        levels = [3 * frame / count for frame in range(count)]
        offset = find_loop_offset(matched, levels)
        assert 0 < abs(offset) <= 0.5
        seams = []
        for shift in (offset, 0.0):
            view = [render_level(matched, (level + shift) % 3, ring=True) for level in levels]
            steps = torch.tensor([(a - b).abs().mean() for a, b in pairwise([*view, view[0]])])
            seams.append(float(steps[-1] / steps[:-1].median()))
        assert seams[0] <= 1, (seed, seams)
        worst = max(worst, seams[1])
    assert worst > 1.02  # begun anywhere
