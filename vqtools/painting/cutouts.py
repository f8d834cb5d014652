"""Cutouts: many small views of one picture, each a little different, as a CLIP gets to see them.

All of a step's random numbers are drawn at once (:func:`draw_cutouts`), before cuts are grouped, and from a generator that is
handed in: how many cuts go at a time changes no view (:func:`apply_plan`). Knows pictures and geometry; nothing about text.

Shapes: n cuts, side the CLIP's input in pixels, H and W the picture's sides.
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

_RANDOM_COLUMNS = (
    23  # random numbers a cut: always all of them, so that switching one augmentation leaves the others alone
)


@dataclass(frozen=True)
class CutoutParams:
    """What was drawn for n cuts."""

    side: int  # pixels along each side of a view
    homography: Tensor  # (n, 3, 3), from the view's square [-1, 1]² to the picture's [0, 1]²
    level: Tensor  # (n,) of int64, the pyramid's level to look at
    blur: Tensor  # (n,) share of the softened view, 0 to 1
    colour: Tensor  # (n, 3, 3), on RGB columns
    noise: Tensor  # (n,) standard deviation
    noise_seed: Tensor  # (n,) of int64
    extra: ExtraAugmentations | None = None  # what the rarer codes add
    pooled: bool = False  # strong details are kept where the picture is shrunk

    def __len__(self) -> int:
        return len(self.homography)

    def to(self, part: slice, device: torch.device) -> CutoutParams:
        """Some of the cuts, on a device; the noise's seeds stay on the CPU."""
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
    """Draw ``count`` cuts of a picture from the (CPU) generator.

    A cut is a square of U^cut_power·(S−m)+m pixels, S the picture's short side and m = min(S, side), anywhere in
    the picture. ``augment`` names what may happen to it, by the codes that artists know: Hf flip (p 0.5), Af turn
    by up to 30° and shift by up to 0.1 of its side (p 0.8), Pe perspective 0.2 (p 0.4), Sh softening (p 0.4), Ji hue
    and saturation by 0.01 (p 0.7), Gn noise of a standard deviation up to 0.1; and those of augment.py. ``method`` may
    ask for the largest squares only ("whole"), for every fourth of them among details of up to half the size
    ("overview"), or for views in which shrinking mixes in each place's brightest value ("pooled").
    """
    u = torch.rand(count, _RANDOM_COLUMNS, generator=generator)
    seeds = torch.randint(2**62, (count,), generator=generator)
    size, left, top, flip, turn, angle, shift_x, shift_y, tilt, soften, softness, jitter, hue, saturation, noise = u[
        :, :15
    ].unbind(1)
    codes = parse_augment(augment)

    def on(code: str, chance: Tensor, probability: float) -> Tensor:
        return (chance < probability) & (code in codes)

    short = min(height, width)
    smallest = min(short, side)
    size = _draw_sizes(size.pow(cut_power), short, smallest, method)
    turned = on("Af", turn, 0.8)
    box = _affine_matrix(
        [[size / 2, 0, left * (width - size) + size / 2], [0, size / 2, top * (height - size) + size / 2]]
    )
    box = box / torch.tensor([width, height, 1.0]).unsqueeze(1)
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
        homography=box @ affine @ perspective @ mirror,
        # the level on which a view's pixel is 1 to √2 pixels wide: there bilinear sampling passes over nothing
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
    """Sides (n,) of the cuts in pixels, from random numbers (n,) in [0, 1]."""
    if method == "whole":
        return torch.full_like(power, short)
    if method == "overview":
        details = power * max(short / 2 - smallest, 0) + min(smallest, short)
        return torch.where(torch.arange(len(power)) % 4 == 0, float(short), details)
    return power * (short - smallest) + smallest


def apply_cutouts(image: Tensor, cuts: CutoutParams, part: slice = slice(None)) -> Tensor:
    """Views (n, 3, side, side) of an image (1, 3, H, W) in [0, 1], for a part of the cuts; differentiable, in fp32.

    They stay in [0, 1] but for noise, and a hair where hues turn. What lies outside the picture is its border.
    """
    with torch.autocast(image.device.type, enabled=False):  # bf16 warps are silently off by tenths
        some = cuts.to(part, image.device)
        views = _warp(image.float(), some, levels=int(cuts.level.max()) + 1)
        if bool((some.blur > 0).any()):
            # as sharpness filters do it, towards [[1, 1, 1], [1, 5, 1], [1, 1, 1]] / 13: 9/13 of the plain mean
            views = torch.lerp(views, _mean3x3(views), some.blur.view(-1, 1, 1, 1) * (9 / 13))
        views = torch.bmm(some.colour, views.flatten(2)).view_as(views)
        if some.extra:
            views = erase_boxes(views, some.extra)
        return views + _cutout_noise(some, image.device) if bool((some.noise > 0).any()) else views


def _warp(image: Tensor, cuts: CutoutParams, levels: int) -> Tensor:
    """Crop, shrink, turn, tilt and flip in a single sampling of one texture that holds the picture at several sizes.

    Shrinking each crop by itself with an antialiased filter and warping it after costs several passes over every
    cut. Here the picture is shrunk once a step, by half octaves; a view reads the one level on which its pixels are
    about a pixel wide. All cuts share one texture, so no gradient of the picture's size is kept for each of them.
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
    # kept half a pixel inside its level, where the neighbour's pixels have no weight
    points = corner + torch.minimum(torch.maximum(points * size, torch.full_like(size, 0.5)), size - 0.5)
    whole = torch.tensor([[atlas.shape[3]], [atlas.shape[2]]], device=image.device)
    grid = (2 * points / whole - 1).transpose(1, 2).reshape(1, n * side, side, 2)
    views = F.grid_sample(atlas, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return views.view(3, n, side, side).transpose(0, 1).contiguous()


def _pyramid_atlas(image: Tensor, levels: int, pooled: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The picture at 2^(-k/2) of its size, k < levels, side by side; each one's corner and size (levels, 2) as x, y."""
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
    """Mean of each pixel's neighbourhood; by slices, ten times as quick on a CPU as a depthwise convolution."""
    x = F.pad(x, (1, 1, 1, 1), mode="replicate")
    x = x[..., :-2] + x[..., 1:-1] + x[..., 2:]
    return (x[..., :-2, :] + x[..., 1:-1, :] + x[..., 2:, :]) / 9


def _cutout_noise(cuts: CutoutParams, device: torch.device) -> Tensor:
    """Each cut's noise comes from its own seed: the same however cuts are grouped."""
    noise = torch.empty(len(cuts), 3, cuts.side, cuts.side, device=device)
    generator = torch.Generator(device)
    for field, seed in zip(noise, cuts.noise_seed.tolist(), strict=True):
        field.normal_(generator=generator.manual_seed(seed))
    return noise * cuts.noise.view(-1, 1, 1, 1)


def _affine_matrix(rows: list[list[Any]]) -> Tensor:
    """Matrices (n, 3, 3) from two rows of numbers or tensors (n,); the third is 0 0 1."""
    n = next(len(entry) for row in rows for entry in row if isinstance(entry, Tensor))
    entries = [torch.as_tensor(entry, dtype=torch.float32).expand(n) for row in [*rows, [0, 0, 1]] for entry in row]
    return torch.stack(entries, dim=1).view(n, 3, 3)


def _perspective_matrix(inward: Tensor) -> Tensor:
    """Homographies (n, 3, 3) under which the square's corners appear moved inward by (n, 4, 2)."""
    from kornia.geometry.transform import get_perspective_transform

    corners = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]).expand_as(inward)
    out: Tensor = get_perspective_transform(corners * (1 - inward), corners)
    return out


def _colour_matrix(hue: Tensor, saturation: Tensor) -> Tensor:
    """Matrices (n, 3, 3): a turn by ``hue`` radians about the grey axis, and a stretch away from it; greys stay."""
    grey = torch.full((3, 3), 1 / 3)
    turn = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    hue, saturation = hue.view(-1, 1, 1), saturation.view(-1, 1, 1)
    return grey + saturation * (hue.cos() * (torch.eye(3) - grey) + hue.sin() * turn)
