"""Camera motion: identity, inverse, composition, and Deforum's units and signs."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vqtools.animation import camera
from vqtools.animation.camera import Motion, homography, warp, warp_and_outpaint, warp_state
from vqtools.core.errors import UserError

BORDERS = ["reflect", "replicate", "wrap", "zeros"]


def smooth(height: int = 48, width: int = 64, seed: int = 0) -> Tensor:
    """An image without fine detail, so that interpolation loses almost nothing."""
    noise = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return F.interpolate(noise, size=(height, width), mode="bicubic").clamp(-1, 1)


def inner(image: Tensor, margin: int = 12) -> Tensor:
    return image[..., margin:-margin, margin:-margin]


def where(image: Tensor) -> tuple[float, float]:
    """The centre (x, y) of the bright spot in pixels."""
    weight = image[0, 0].clamp(min=0).double()
    y, x = torch.meshgrid(*(torch.arange(n) + 0.5 for n in weight.shape), indexing="ij")
    return float((weight * x).sum() / weight.sum()), float((weight * y).sum() / weight.sum())


def spot(x: float, y: float, height: int = 48, width: int = 64) -> Tensor:
    yy, xx = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.exp(-((xx - x) ** 2 + (yy - y) ** 2) / 8).expand(1, 3, -1, -1)


motions = st.builds(
    Motion,
    zoom=st.floats(0.9, 1.15),
    angle=st.floats(-8, 8),
    translation_x=st.floats(-4, 4),
    translation_y=st.floats(-4, 4),
    translation_z=st.floats(-15, 15),
    rotation_3d_x=st.floats(-4, 4),
    rotation_3d_y=st.floats(-4, 4),
    rotation_3d_z=st.floats(-4, 4),
    fov=st.just(40.0),
    centre_x=st.just(0.5),
    centre_y=st.just(0.5),
)


@pytest.mark.parametrize("border", BORDERS)
@settings(max_examples=12)
@given(st.floats(1, 170), st.floats(0, 1), st.floats(0, 1))
def test_zero_motion_is_the_identity(border: camera.Border, fov: float, x: float, y: float) -> None:
    image = torch.rand(1, 3, 9, 13)
    still = homography(Motion(fov=fov, centre_x=x, centre_y=y), 13, 9)
    assert torch.equal(warp(image, still, border=border), image)
    nearly = still.clone()
    nearly[0, 2] = 1e-9  # not recognised as the identity: the image is resampled, and stays the same
    assert torch.allclose(warp(image, nearly, border=border), image, atol=2e-5)


@pytest.mark.parametrize("zoom", [1.02, 1.1, 1.5])
def test_zooming_in_and_out_restores_the_image(zoom: float) -> None:
    image = smooth()
    zoomed = warp(image, homography(Motion(zoom=zoom), 64, 48))
    back = warp(zoomed, homography(Motion(zoom=1 / zoom), 64, 48))
    assert (zoomed - image).abs().max() > 0.05
    assert (inner(back) - inner(image)).abs().max() < 0.02


@settings(max_examples=12)
@given(motions)
def test_the_inverse_homography_restores_the_image(motion: Motion) -> None:
    image = smooth(96, 128)
    matrix = homography(motion, 128, 96)
    back = warp(warp(image, matrix), torch.linalg.inv(matrix))
    assert (inner(back, 30) - inner(image, 30)).abs().max() < 0.02


@settings(max_examples=12)
@given(motions, motions)
def test_one_combined_warp_equals_single_steps(first: Motion, second: Motion) -> None:
    a, b = homography(first, 128, 96), homography(second, 128, 96)
    image = smooth(96, 128)
    stepped = warp(warp(image, a), b)
    assert (inner(warp(image, b @ a), 36) - inner(stepped, 36)).abs().max() < 0.05


@pytest.mark.parametrize(
    ("motion", "to"),
    [
        (Motion(translation_x=5), (45, 24)),
        (Motion(translation_y=5), (40, 29)),
        (Motion(angle=90), (32, 16)),  # counter-clockwise: from the right to the top
        (Motion(rotation_3d_z=90), (32, 16)),
        (Motion(zoom=2), (48, 24)),
        (Motion(zoom=2, translation_x=2), (52, 24)),  # shifted first, then enlarged
        (Motion(zoom=2, centre_x=0.75), (32, 24)),
        (Motion(translation_z=100), (48, 24)),  # half the distance
        (Motion(translation_z=-200), (36, 24)),  # twice as far
    ],
)
def test_units_and_signs_are_those_of_deforum(motion: Motion, to: tuple[float, float]) -> None:
    moved = warp(spot(40, 24), homography(motion, 64, 48), border="zeros")
    assert where(moved) == pytest.approx(to, abs=0.1)


def test_turning_the_camera_up_and_right_moves_the_image_down_and_left() -> None:
    focal = 24 / math.tan(math.radians(20))
    _, y = where(warp(spot(32, 24), homography(Motion(rotation_3d_x=5), 64, 48), border="zeros"))
    x, _ = where(warp(spot(32, 24), homography(Motion(rotation_3d_y=5), 64, 48), border="zeros"))
    assert y == pytest.approx(24 + focal * math.tan(math.radians(5)), abs=0.1)
    assert x == pytest.approx(32 - focal * math.tan(math.radians(5)), abs=0.1)


def test_each_border_mode_fills_what_enters() -> None:
    image = torch.arange(8.0).view(1, 1, 1, 8).expand(1, 1, 8, 8)
    right = homography(Motion(translation_x=2), 8, 8)
    rows = {border: warp(image, right, border=border)[0, 0, 4].tolist() for border in BORDERS}  # type: ignore[arg-type]
    expected = {"reflect": [1, 0], "replicate": [0, 0], "wrap": [6, 7], "zeros": [0, 0]}
    for border, first in expected.items():
        assert rows[border] == pytest.approx([*first, 0, 1, 2, 3, 4, 5], abs=1e-4)
    rows["wrap"] = warp(image, homography(Motion(translation_x=8 * 5), 8, 8), border="wrap")[0, 0, 4].tolist()
    assert rows["wrap"] == pytest.approx(list(range(8)), abs=1e-3)


def test_shrinking_is_antialiased() -> None:
    stripes = (torch.arange(64) % 2).float().expand(1, 1, 64, -1) * 2 - 1
    small = warp(stripes, homography(Motion(zoom=0.5, translation_x=0.5), 64, 64), border="wrap")
    assert small.abs().max() < 0.2  # a pattern finer than the pixels turns grey, not into coarser stripes
    assert small.abs().mean() < 0.2


def test_the_outpainter_is_called_only_for_uncovered_pixels() -> None:
    masks: list[Tensor] = []

    def outpaint(image: Tensor, mask: Tensor) -> Tensor:
        masks.append(mask)
        return torch.where(mask, torch.ones_like(image), image)

    image = smooth() * 0.5
    out = warp_and_outpaint(image, homography(Motion(translation_x=6), 64, 48), outpaint=outpaint)
    assert bool((out[..., :6] == 1).all()) and not bool((out[..., 6:] == 1).any())
    assert masks[0][0, 0].sum() == 6 * 48
    warp_and_outpaint(image, homography(Motion(zoom=1.2), 64, 48), outpaint=outpaint)
    assert len(masks) == 1


def test_the_painters_state_is_warped_with_its_image() -> None:
    z = F.interpolate(smooth(12, 16), size=(12, 16))
    state = {
        "position": 3, "latents": z, "average": z + 1, "start": z,
        "adam": {"step": torch.tensor(4.0), "exp_avg": z, "exp_avg_sq": z.square()},
    }  # fmt: skip
    matrix = homography(Motion(translation_x=8, translation_y=-16), 128, 96)
    moved = warp_state(state, matrix, 8)
    for name in ("latents", "average", "start"):
        assert torch.allclose(moved[name][..., :-2, 1:], state[name][..., 2:, :-1], atol=1e-4)
    assert moved["adam"]["step"] == 4 and moved["position"] == 3
    sharp = torch.zeros(1, 1, 12, 16)
    sharp[..., 6, 8] = 1
    state["adam"]["exp_avg_sq"] = sharp
    assert warp_state(state, homography(Motion(angle=30, zoom=1.3), 128, 96), 8)["adam"]["exp_avg_sq"].min() >= 0
    still = warp_state(state, homography(Motion(), 128, 96), 8)
    assert all(torch.equal(still[name], state[name]) for name in ("latents", "average", "start"))


@pytest.mark.parametrize(
    "motion",
    [Motion(zoom=0), Motion(zoom=-1), Motion(zoom=math.nan), Motion(fov=0), Motion(translation_z=200),
     Motion(rotation_3d_y=89), Motion(rotation_3d_x=180)],
)  # fmt: skip
def test_motion_without_an_image_raises_user_error(motion: Motion) -> None:
    with pytest.raises(UserError, match=r"must be|through the picture"):
        homography(motion, 64, 48)


@pytest.mark.parametrize(("border", "shape"), list(itertools.product(BORDERS, [(1, 1), (3, 2), (8, 8)])))
def test_tiny_grids_can_be_warped(border: camera.Border, shape: tuple[int, int]) -> None:
    for zoom in (0.1, 0.7, 3.0):
        out = warp(torch.ones(1, 2, *shape), homography(Motion(zoom=zoom), shape[1], shape[0]), border=border)
        assert out.shape == (1, 2, *shape) and bool(out.isfinite().all())
