"""Additional augmentations of cutouts: Ro rotation, Cr and Re crops, Et elastic, Ts thin plate spline, Er erasing.

Their random numbers come from the cutouts' own seeds, so that switching one on leaves the other draws as they are.

Shapes: n cutouts, side of a cutout in pixels; points of a cutout are in its square [-1, 1]².
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

EXTRA_CODES = frozenset({"Ro", "Er", "Et", "Ts", "Cr", "Re"})
_RANDOM_COLUMNS = 23
_ELASTIC_GRID = 5  # side of the coarse grid of an elastic field
_PROBABILITY = 0.7  # of each augmentation, as in nerdyrodent's VQGAN-CLIP; 0.5 for the two crops


@dataclass(frozen=True)
class ExtraAugmentations:
    """The random parameters of n cutouts."""

    move: Tensor  # (n, 3, 3), from the cutout's square to the square of CutoutParams.homography
    elastic: Tensor  # (n, 2, 5, 5) shifts of x and y
    spline: Tensor  # (n, 5, 2) shifts of the corners and the centre
    erased: Tensor  # (n, 4) left, top, right, bottom in [-1, 1]; equal edges erase nothing

    def to(self, part: slice, device: torch.device) -> ExtraAugmentations:
        """Some of the cutouts, on a device."""
        return ExtraAugmentations(
            *(getattr(self, name)[part].to(device) for name in ("move", "elastic", "spline", "erased"))
        )


def draw_extra(seeds: Tensor, codes: frozenset[str]) -> ExtraAugmentations | None:
    """Draw the augmentations that are among ``codes`` for n cutouts with seeds (n,); None if there are none."""
    if not codes & EXTRA_CODES:
        return None
    n, columns = len(seeds), _RANDOM_COLUMNS + 2 * _ELASTIC_GRID**2
    u = torch.empty(n, columns)
    for row, seed in zip(u, seeds.tolist(), strict=True):
        row.uniform_(generator=torch.Generator().manual_seed(seed ^ 0x5EED))

    def on(code: str, column: int, probability: float = _PROBABILITY) -> Tensor:
        return (u[:, column] < probability) & (code in codes)

    angle = torch.where(on("Ro", 0), math.radians(15) * (2 * u[:, 1] - 1), 0)
    crop = torch.where(on("Cr", 2, 0.5), 0.8 + 0.2 * u[:, 3], 1.0)  # fraction of the side
    stretch = on("Re", 6, 0.5)
    area = torch.where(stretch, 0.1 + 0.9 * u[:, 7], 1.0).sqrt()
    shape = torch.where(stretch, (math.log(4 / 3) * (2 * u[:, 8] - 1)).exp(), 1.0).sqrt()
    across, down = (area * shape).clamp(max=1), (area / shape).clamp(max=1)
    first_crop = _crop_matrix(crop, crop, u[:, 4], u[:, 5])
    second_crop = _crop_matrix(across, down, u[:, 9], u[:, 10])
    move = first_crop @ second_crop @ _rotation_matrix(angle)
    bent = on("Ts", 11).view(-1, 1, 1)
    waves = on("Et", 12).view(-1, 1, 1, 1)
    return ExtraAugmentations(
        move=move,
        elastic=torch.where(waves, 0.12 * (2 * u[:, _RANDOM_COLUMNS:].view(n, 2, _ELASTIC_GRID, _ELASTIC_GRID) - 1), 0),
        spline=torch.where(bent, 0.2 * (2 * u[:, 13:23].view(n, 5, 2) - 1), 0),
        erased=_erased_boxes(on("Er", 0), *_draw_box_numbers(seeds, 4).unbind(1)),
    )


def warp_points(points: Tensor, extra: ExtraAugmentations, side: int) -> Tensor:
    """Move the homogeneous points (n, 3, side²) at which the cutouts' pixels are sampled."""
    n = len(points)
    field = F.interpolate(extra.elastic, size=(side, side), mode="bicubic", align_corners=True).view(n, 2, -1)
    flat = points[:, :2] + field
    if bool((extra.spline != 0).any()):
        flat = _thin_plate_spline(flat, extra.spline)
    return torch.bmm(extra.move, torch.cat([flat, points[:, 2:]], dim=1))


def erase_boxes(views: Tensor, extra: ExtraAugmentations) -> Tensor:
    """Set the erased box of each cutout (n, 3, side, side) to black."""
    side = views.shape[-1]
    at = (2 * torch.arange(side, device=views.device) + 1) / side - 1
    left, top, right, bottom = (edge.view(-1, 1) for edge in extra.erased.unbind(1))
    columns, rows = (at >= left) & (at < right), (at >= top) & (at < bottom)
    return views.masked_fill((rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1), 0)


def _draw_box_numbers(seeds: Tensor, columns: int) -> Tensor:
    u = torch.empty(len(seeds), columns)
    for row, seed in zip(u, seeds.tolist(), strict=True):
        row.uniform_(generator=torch.Generator().manual_seed(seed ^ 0xE7A5E))
    return u


def _erased_boxes(erased: Tensor, area: Tensor, shape: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Boxes (n, 4) of 0.1 to 0.4 of the cutout's area, with an aspect ratio of 3:10 to 10:3; empty where not erased."""
    area = (0.1 + 0.3 * area).sqrt()
    shape = (math.log(10 / 3) * (2 * shape - 1)).exp().sqrt()
    width, height = (2 * area * shape).clamp(max=2), (2 * area / shape).clamp(max=2)
    left, top = -1 + x * (2 - width), -1 + y * (2 - height)
    box = torch.stack([left, top, left + width, top + height], dim=1)
    return torch.where(erased.unsqueeze(1), box, torch.zeros(()))


def _crop_matrix(across: Tensor, down: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Matrices (n, 3, 3) that map the square to a box of these fractions of its sides, at x, y in [0, 1] inside it."""
    out = torch.diag_embed(torch.stack([across, down, torch.ones_like(across)], dim=1))
    out[:, 0, 2], out[:, 1, 2] = (1 - across) * (2 * x - 1), (1 - down) * (2 * y - 1)
    return out


def _rotation_matrix(angle: Tensor) -> Tensor:
    out = torch.eye(3).repeat(len(angle), 1, 1)
    out[:, 0, 0], out[:, 0, 1], out[:, 1, 0], out[:, 1, 1] = angle.cos(), -angle.sin(), angle.sin(), angle.cos()
    return out


def _thin_plate_spline(points: Tensor, shifts: Tensor) -> Tensor:
    """Move points (n, 2, m) by the thin plate spline under which corners and centre move by ``shifts`` (n, 5, 2)."""
    from kornia.geometry.transform import get_tps_transform, warp_points_tps

    fixed = points.new_tensor([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]).expand_as(shifts)
    kernel, affine = get_tps_transform(fixed, fixed + shifts)
    out: Tensor = warp_points_tps(points.transpose(1, 2), fixed, kernel, affine)
    return out.transpose(1, 2)
