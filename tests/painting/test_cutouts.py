from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from vqtools.core.errors import UserError
from vqtools.painting.cutouts import _perspective_matrix, apply_cutouts, draw_cutouts


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth(height: int, width: int) -> torch.Tensor:
    """A picture in [0, 1] without fine detail."""
    y, x = torch.meshgrid(torch.arange(height) / 16, torch.arange(width) / 16, indexing="ij")
    return torch.stack([x.sin(), (x + y).cos(), (2 * y).sin()]).unsqueeze(0) / 2 + 0.5


def test_a_plain_cutout_of_the_whole_picture_is_the_picture() -> None:
    image = torch.rand(1, 3, 16, 16, generator=generator())
    cuts = draw_cutouts(generator(), 3, 16, 16, side=16, augment="")
    torch.testing.assert_close(apply_cutouts(image, cuts), image.expand(3, -1, -1, -1), atol=1e-5, rtol=0)


def test_a_plain_cutout_is_the_downscaled_crop() -> None:
    image = smooth(96, 128)
    cuts = draw_cutouts(generator(2), 6, 96, 128, side=32, cut_power=0.5, augment="")
    assert len(set(cuts.level.tolist())) > 1
    for view, homography in zip(apply_cutouts(image, cuts), cuts.homography, strict=True):
        left, top = ((homography[i, 2] - homography[i, i]) * s for i, s in ((0, 128), (1, 96)))
        size = float(2 * homography[0, 0] * 128)
        assert -1e-3 <= left <= 128 - size + 1e-3
        assert -1e-3 <= top <= 96 - size + 1e-3
        x0, y0, side = round(float(left)), round(float(top)), round(size)
        crop = F.interpolate(image[:, :, y0 : y0 + side, x0 : x0 + side], size=(32, 32), mode="area")[0]
        assert (view - crop)[:, 2:-2, 2:-2].abs().max() < 0.07  # half a pixel is lost in rounding the crop


def test_fine_patterns_do_not_alias() -> None:
    y, x = torch.meshgrid(torch.arange(128), torch.arange(128), indexing="ij")
    image = ((x + y) % 2).float().expand(1, 3, -1, -1).contiguous()
    cuts = draw_cutouts(generator(), 4, 128, 128, side=32, cut_power=1e-3, augment="Af")
    views = apply_cutouts(image, cuts)[:, :, 4:-4, 4:-4]
    assert (views - 0.5).abs().max() < 0.1


def test_outside_the_picture_its_border_is_repeated() -> None:
    cuts = draw_cutouts(generator(), 60, 64, 96, side=16, augment="Hf Af Pe")
    assert len(set(cuts.level.tolist())) > 3
    assert torch.allclose(apply_cutouts(torch.ones(1, 3, 64, 96), cuts), torch.ones(()))


def test_the_blur_is_that_of_a_sharpness_filter() -> None:
    from kornia.enhance import sharpness

    image = torch.rand(1, 3, 16, 16, generator=generator())
    cuts = draw_cutouts(generator(), 12, 16, 16, side=16, augment="Sh")
    assert (cuts.blur > 0).any()
    expected = sharpness(image.expand(12, -1, -1, -1), 1 - cuts.blur)
    inside = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(apply_cutouts(image, cuts)[inside], expected[inside], atol=1e-5, rtol=0)


def test_cutouts_stay_in_range_and_noise_has_its_documented_strength() -> None:
    image = torch.rand(1, 3, 40, 48, generator=generator())
    cuts = draw_cutouts(generator(), 32, 40, 48, side=24)
    views = apply_cutouts(image, cuts)
    assert views.shape == (32, 3, 24, 24)
    without = apply_cutouts(image, draw_cutouts(generator(), 32, 40, 48, side=24, augment="Hf Af Pe Sh Ji"))
    assert without.min() > -0.02 and without.max() < 1.02  # a turned hue may leave the range by a hair
    torch.testing.assert_close((views - without).std(dim=(1, 2, 3)), cuts.noise, atol=0.01, rtol=0.1)
    assert cuts.noise.max() <= 0.1


def test_switching_one_augmentation_does_not_change_the_other_draws() -> None:
    every = draw_cutouts(generator(), 64, 40, 48, side=24)
    for code, name in (("Sh", "blur"), ("Ji", "colour"), ("Gn", "noise"), ("Af", "homography"), ("Pe", "homography")):
        rest = " ".join(other for other in ["Hf", "Af", "Pe", "Sh", "Ji", "Gn"] if other != code)
        some = draw_cutouts(generator(), 64, 40, 48, side=24, augment=rest)
        changed = [
            field for field in ("homography", "level", "blur", "colour", "noise", "noise_seed")
            if not torch.equal(getattr(every, field), getattr(some, field))
        ]  # fmt: skip
        assert changed == [name]


def test_probabilities_are_as_documented() -> None:
    n = 4000
    cuts = draw_cutouts(generator(), n, 64, 64, side=64)  # the box is the whole picture
    assert abs((cuts.blur > 0).float().mean() - 0.4) < 0.03
    assert cuts.blur[cuts.blur > 0].min() >= 0.7
    flipped = draw_cutouts(generator(), n, 64, 64, side=64, augment="Hf").homography[:, 0, 0] < 0
    assert abs(flipped.float().mean() - 0.5) < 0.03
    turned = draw_cutouts(generator(), n, 64, 64, side=64, augment="Af").homography
    angles = torch.atan2(turned[:, 1, 0], turned[:, 1, 1]).rad2deg()
    assert abs((angles != 0).float().mean() - 0.8) < 0.03
    assert 29 < angles.abs().max() <= 30.001
    assert 0.095 < (turned[:, :2, 2] - 0.5).abs().max() <= 0.1001
    tilted = draw_cutouts(generator(), n, 64, 64, side=64, augment="Pe").homography[:, 2, :2].abs().sum(1)
    assert abs((tilted > 1e-6).float().mean() - 0.4) < 0.03


def test_perspective_moves_the_corners_inward() -> None:
    inward = 0.2 * torch.rand(50, 4, 2, generator=generator())
    corners = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
    moved = corners * (1 - inward)
    seen = torch.cat([moved, torch.ones(50, 4, 1)], dim=2) @ _perspective_matrix(inward).transpose(1, 2)
    torch.testing.assert_close(seen[..., :2] / seen[..., 2:], corners.expand(50, -1, -1), atol=1e-5, rtol=0)


def test_colour_jitter_keeps_greys() -> None:
    cuts = draw_cutouts(generator(), 50, 8, 8, side=8, augment="Ji")
    torch.testing.assert_close(cuts.colour @ torch.ones(3), torch.ones(50, 3))
    assert (cuts.colour - torch.eye(3)).abs().max() > 0.01


@pytest.mark.parametrize("power", [0.3, 1.0, 4.0])
def test_sizes_follow_the_exponent(power: float) -> None:
    cuts = draw_cutouts(generator(), 4000, 100, 200, side=20, cut_power=power, augment="")
    size = 2 * cuts.homography[:, 1, 1] * 100
    assert size.min() >= 20 - 1e-3 and size.max() <= 100 + 1e-3
    assert abs(size.mean() - (20 + 80 / (power + 1))) < 2


def test_a_picture_smaller_than_the_clip_input_is_enlarged() -> None:
    cuts = draw_cutouts(generator(), 2, 8, 12, side=16, augment="")
    assert torch.allclose(2 * cuts.homography[:, 1, 1] * 8, torch.tensor(8.0))
    assert apply_cutouts(torch.rand(1, 3, 8, 12), cuts).shape == (2, 3, 16, 16)


def test_grouping_changes_no_cutout() -> None:
    image = torch.rand(1, 3, 40, 48, generator=generator())
    cuts = draw_cutouts(generator(), 7, 40, 48, side=16)
    whole = apply_cutouts(image, cuts)
    for group in range(1, 8):
        parts = [apply_cutouts(image, cuts, slice(first, first + group)) for first in range(0, 7, group)]
        torch.testing.assert_close(torch.cat(parts), whole, atol=1e-6, rtol=0)


def test_gradients_reach_every_pixel_in_a_cutout() -> None:
    image = torch.rand(1, 3, 64, 64, generator=generator()).requires_grad_()
    cuts = draw_cutouts(generator(), 4, 64, 64, side=16, cut_power=1e-3)  # whole pictures
    (gradient,) = torch.autograd.grad(apply_cutouts(image, cuts).square().sum(), image)
    assert (gradient[..., 16:-16, 16:-16] != 0).all()


def test_the_gradient_is_the_derivative() -> None:
    image = torch.rand(1, 3, 12, 12, generator=generator(), dtype=torch.float32).requires_grad_()
    cuts = draw_cutouts(generator(3), 3, 12, 12, side=6)
    direction = torch.randn(image.shape, generator=generator(1))
    views = apply_cutouts(image, cuts)
    weights = torch.randn(views.shape, generator=generator(2))
    (gradient,) = torch.autograd.grad((views * weights).sum(), image)
    moved = apply_cutouts(image.detach() + direction, cuts) - apply_cutouts(image.detach(), cuts)  # linear in the image
    assert math.isclose((gradient * direction).sum(), (moved * weights).sum(), rel_tol=1e-3)


def test_warps_stay_exact_under_autocast() -> None:
    image = torch.rand(1, 3, 16, 16, generator=generator())
    cuts = draw_cutouts(generator(), 3, 16, 16, side=16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        views = apply_cutouts(image, cuts)
    assert torch.equal(views, apply_cutouts(image, cuts))


def test_only_the_given_generator_is_used() -> None:
    before = torch.get_rng_state()
    apply_cutouts(torch.zeros(1, 3, 16, 16), draw_cutouts(generator(), 3, 16, 16, side=8))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_unknown_augmentation_code_is_an_error() -> None:
    with pytest.raises(UserError, match="'Zz': expected codes of Hf Af Pe Sh Ji Gn"):
        draw_cutouts(generator(), 3, 16, 16, side=8, augment="Af, Zz")
