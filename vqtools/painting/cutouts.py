"""Cutouts: random crops of a picture, augmented and resized to CLIP's input size.

:func:`draw_cutouts` draws all random numbers of a step at once from a generator that is an argument; then
:func:`apply_cutouts` may be called for groups of cutouts, and the group size changes no cutout. Knows pictures and
geometry; nothing about text.

Shapes: n cutouts, side the CLIP's input in pixels, H and W the picture's sides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vqtools.painting.augment import ExtraAugmentations, draw_extra, erase_boxes, warp_points
from vqtools.painting.parsers import AUGMENTATIONS, parse_augment
from vqtools.painting.settings import CutMethod

# random numbers per cutout: all are always drawn, so that switching one augmentation leaves the others as they are
_RANDOM_COLUMNS = 23


@dataclass(frozen=True)
class CutoutParams:
    """The random parameters of n cutouts."""

    side: int  # pixels
    homography: Tensor  # (n, 3, 3), from the cutout's square [-1, 1]² to the picture's [0, 1]²
    level: Tensor  # (n,) of int64, level of the image pyramid to sample from
    blur: Tensor  # (n,) fraction of the blurred cutout, 0 to 1
    colour: Tensor  # (n, 3, 3), applied to RGB columns
    noise: Tensor  # (n,) standard deviation
    noise_seed: Tensor  # (n,) of int64
    extra: ExtraAugmentations | None = None  # of the codes in augment.py
    pooled: bool = False  # whether the pyramid mixes in max pooling

    def __len__(self) -> int:
        return len(self.homography)

    def to(self, part: slice, device: torch.device) -> CutoutParams:
        """Some of the cutouts, on a device; the noise's seeds stay on the CPU."""
        tensors = [field.name for field in fields(self) if isinstance(getattr(self, field.name), Tensor)]
        moved = {name: getattr(self, name)[part].to(device) for name in tensors if name != "noise_seed"}
        extra = self.extra.to(part, device) if self.extra else None
        return CutoutParams(side=self.side, noise_seed=self.noise_seed[part], extra=extra, pooled=self.pooled, **moved)


def draw_cutouts(
    generator: torch.Generator,
    count: int,
    height: int,
    width: int,
    side: int,
    cut_power: float = 1.0,
    augment: str = AUGMENTATIONS,
    method: CutMethod = "random",
) -> CutoutParams:
    """Draw ``count`` cutouts of a picture from a CPU generator.

    A cutout is a square of U^cut_power·(S−m)+m pixels, U uniform in [0, 1], S the picture's short side and
    m = min(S, side), at a uniform position in the picture.

    augment: codes of the augmentations, as in nerdyrodent's VQGAN-CLIP: Hf flip (p 0.5), Af rotation by up to 30° and
        shift by up to 0.1 of the side (p 0.8), Pe perspective 0.2 (p 0.4), Sh blur (p 0.4), Ji hue and saturation by
        0.01 (p 0.7), Gn noise of a standard deviation up to 0.1; and those of augment.py.
    method: "random" as above, "whole" for squares of S pixels only, "overview" for one of these in four and the others
        of up to half the size, "pooled" for downscaling that mixes in max pooling.
    """
    u = torch.rand(count, _RANDOM_COLUMNS, generator=generator)
    seeds = torch.randint(2**62, (count,), generator=generator)
    size, left, top, flip, turn, angle, shift_x, shift_y, tilt, soften, softness, jitter, hue, saturation, noise = u[
        :, :15
    ].unbind(1)
    codes = parse_augment(augment)

    def on(code: str, uniform: Tensor, probability: float) -> Tensor:
        return (uniform < probability) & (code in codes)

    short = min(height, width)
    smallest = min(short, side)
    size = _draw_sizes(size.pow(cut_power), short, smallest, method)
    turned = on("Af", turn, 0.8)
    angle = torch.where(turned, math.radians(30) * (2 * angle - 1), 0)
    shift = [torch.where(turned, 0.2 * (2 * s - 1), 0) for s in (shift_x, shift_y)]  # of 2, the square's side
    affine = _affine_matrix([[angle.cos(), -angle.sin(), shift[0]], [angle.sin(), angle.cos(), shift[1]]])
    mirror = _affine_matrix([[torch.where(on("Hf", flip, 0.5), -1.0, 1.0), 0, 0], [0, 1, 0]])
    perspective = _perspective_matrix(
        torch.where(on("Pe", tilt, 0.4)[:, None, None], 0.2 * u[:, 15:].view(count, 4, 2), 0)
    )
    strength = torch.where(on("Ji", jitter, 0.7), 1.0, 0.0)
    return CutoutParams(
        side=side,
        homography=_crop_homography(size, left, top, height, width) @ affine @ perspective @ mirror,
        # on this level a cutout's pixel is 1 to √2 pixels wide, so bilinear sampling skips no pixel
        level=(2 * torch.log2(size / side) + 1e-4).floor().clamp(min=0).long(),
        blur=torch.where(on("Sh", soften, 0.4), 1 - 0.3 * softness, 0),
        colour=_colour_matrix(
            2 * math.pi * 0.01 * strength * (2 * hue - 1), 1 + 0.01 * strength * (2 * saturation - 1)
        ),
        noise=0.1 * noise * ("Gn" in codes),
        noise_seed=seeds,
        extra=draw_extra(seeds, codes),
        pooled=method == "pooled",
    )


def _draw_sizes(power: Tensor, short: int, smallest: int, method: CutMethod) -> Tensor:
    """Sides (n,) of the cutouts in pixels, from random numbers (n,) in [0, 1]."""
    if method == "whole":
        return torch.full_like(power, short)
    if method == "overview":
        details = power * max(short / 2 - smallest, 0) + min(smallest, short)
        return torch.where(torch.arange(len(power)) % 4 == 0, float(short), details)
    return power * (short - smallest) + smallest


def _crop_homography(size: Tensor, left: Tensor, top: Tensor, height: int, width: int) -> Tensor:
    """Matrices (n, 3, 3) from [-1, 1]² to squares of ``size`` pixels in the picture's [0, 1]².

    left, top: (n,) in [0, 1], the squares' positions within the room that the picture leaves.
    """
    rows = [[size / 2, 0, left * (width - size) + size / 2], [0, size / 2, top * (height - size) + size / 2]]
    return _affine_matrix(rows) / torch.tensor([width, height, 1.0]).unsqueeze(1)


def apply_cutouts(image: Tensor, cuts: CutoutParams, part: slice = slice(None)) -> Tensor:
    """Cutouts (n, 3, side, side) of an image (1, 3, H, W) in [0, 1]; differentiable, in fp32.

    Values stay in [0, 1] except for noise and small deviations from hue rotation. Outside the image its border is
    repeated. part: which of the cutouts.
    """
    with torch.autocast(image.device.type, enabled=False):  # in bf16, coordinates are off by tenths of a pixel
        params = cuts.to(part, image.device)
        views = _warp(image.float(), params, levels=int(cuts.level.max()) + 1)
        if bool((params.blur > 0).any()):
            # the kernel of sharpness filters, [[1, 1, 1], [1, 5, 1], [1, 1, 1]] / 13: 9/13 of the mean, 4/13 centre
            views = torch.lerp(views, _mean3x3(views), params.blur.view(-1, 1, 1, 1) * (9 / 13))
        views = torch.bmm(params.colour, views.flatten(2)).view_as(views)
        if params.extra:
            views = erase_boxes(views, params.extra)
        return views + _cutout_noise(params, image.device) if bool((params.noise > 0).any()) else views


def _warp(image: Tensor, cuts: CutoutParams, levels: int) -> Tensor:
    """Crop, resize, rotate, tilt and flip by sampling once from an atlas with the picture at several sizes.

    Resizing each crop by itself with an antialiasing filter and warping it afterwards takes several passes over every
    cutout. Here the picture is downscaled once per step, by half octaves, and a cutout samples the level on which its
    pixels are about one pixel wide. All cutouts share one atlas, so none needs a gradient of the picture's size.
    """
    atlas, corners, sizes = _pyramid_atlas(image, levels, cuts.pooled)
    n, side = len(cuts), cuts.side
    centres = (2 * torch.arange(side, device=image.device) + 1) / side - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    square = torch.stack([x, y, torch.ones_like(x)]).view(1, 3, -1).expand(n, -1, -1)
    if cuts.extra:
        square = warp_points(square, cuts.extra, side)
    points = torch.bmm(cuts.homography, square)  # (n, 3, side²)
    points = points[:, :2] / points[:, 2:]
    corner, size = corners[cuts.level].unsqueeze(2), sizes[cuts.level].unsqueeze(2)  # (n, 2, 1): x, y in pixels
    # stay half a pixel inside the level, where the neighbouring level has no weight
    points = corner + torch.minimum(torch.maximum(points * size, torch.full_like(size, 0.5)), size - 0.5)
    atlas_size = torch.tensor([[atlas.shape[3]], [atlas.shape[2]]], device=image.device)
    grid = (2 * points / atlas_size - 1).transpose(1, 2).reshape(1, n * side, side, 2)
    views = F.grid_sample(atlas, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return views.view(3, n, side, side).transpose(0, 1).contiguous()


def _pyramid_atlas(image: Tensor, levels: int, pooled: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The picture at 2^(-k/2) of its size, k < levels, side by side; the levels' corners and sizes (levels, 2)."""
    height, width = image.shape[-2:]
    shapes = [(max(1, round(height * 2 ** (-k / 2))), max(1, round(width * 2 ** (-k / 2)))) for k in range(levels)]
    pictures = [image] + [F.interpolate(image, size=s, mode="bilinear", antialias=True) for s in shapes[1:]]
    if pooled:
        pictures = [(p + F.adaptive_max_pool2d(image, s)) / 2 for p, s in zip(pictures, shapes, strict=True)]
    atlas = torch.cat([F.pad(p, (0, 0, 0, height - p.shape[2])) for p in pictures], dim=3) if levels > 1 else image
    sizes = torch.tensor([[w, h] for h, w in shapes], dtype=torch.float32)
    corners = torch.stack([sizes[:, 0].cumsum(0) - sizes[:, 0], torch.zeros(levels)], dim=1)
    return atlas, corners.to(image.device), sizes.to(image.device)


def _mean3x3(x: Tensor) -> Tensor:
    """Mean of each pixel's 3×3 neighbourhood; on a CPU, slices are 10× faster than a depthwise convolution."""
    x = F.pad(x, (1, 1, 1, 1), mode="replicate")
    x = x[..., :-2] + x[..., 1:-1] + x[..., 2:]
    return (x[..., :-2, :] + x[..., 1:-1, :] + x[..., 2:, :]) / 9


def _cutout_noise(cuts: CutoutParams, device: torch.device) -> Tensor:
    """Noise of each cutout from its own seed, so that it does not depend on the grouping."""
    noise = torch.empty(len(cuts), 3, cuts.side, cuts.side, device=device)
    generator = torch.Generator(device)
    for field, seed in zip(noise, cuts.noise_seed.tolist(), strict=True):
        field.normal_(generator=generator.manual_seed(seed))
    return noise * cuts.noise.view(-1, 1, 1, 1)


def _affine_matrix(rows: list[list[Any]]) -> Tensor:
    """Matrices (n, 3, 3) from two rows of numbers or tensors (n,); the third row is 0 0 1."""
    n = next(len(entry) for row in rows for entry in row if isinstance(entry, Tensor))
    entries = [torch.as_tensor(entry, dtype=torch.float32).expand(n) for row in [*rows, [0, 0, 1]] for entry in row]
    return torch.stack(entries, dim=1).view(n, 3, 3)


def _perspective_matrix(inward: Tensor) -> Tensor:
    """Homographies (n, 3, 3) under which the square's corners appear moved inward by ``inward`` (n, 4, 2)."""
    from kornia.geometry.transform import get_perspective_transform

    corners = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]).expand_as(inward)
    homography: Tensor = get_perspective_transform(corners * (1 - inward), corners)
    return homography


def _colour_matrix(hue: Tensor, saturation: Tensor) -> Tensor:
    """Matrices (n, 3, 3) that rotate colours by ``hue`` radians around the grey axis and scale the distance from it."""
    grey = torch.full((3, 3), 1 / 3)
    turn = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    hue, saturation = hue.view(-1, 1, 1), saturation.view(-1, 1, 1)
    return grey + saturation * (hue.cos() * (torch.eye(3) - grey) + hue.sin() * turn)
