"""TODO: what this module is.

Split from vqtools.animation.octaves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vqtools.animation.camera import Motion, homography, uncovered_mask
from vqtools.media.colour import sharpen

_MAX_SEAM_CANDIDATES = 24  # neighbours, and beginnings of a loop, that are compared


_SEAM_TOLERANCE = 0.98  # of the usual change: it is measured on a part of the frames, and before they are rounded


_BACK_PROJECTION_ROUNDS = 2  # of giving back


_UPSCALE_SHARPENING = 1.0  # of unsharp masking, for a picture at twice its size


_MASK_FEATHER = 0.35  # of half a side: how softly the middle meets its surroundings


def find_loop_offset(settled: Sequence[Tensor], found: Sequence[float]) -> float:
    """How much wider a ring's first frame is to see, in doublings, so that its last is as near to it as neighbours are.

    A loop has no beginning, so it may have one anywhere: where the pictures change no more than is usual, and no
    further away than it takes, at most half a doubling. found: the frames' levels, as :func:`loop_levels` gives them. Half
    a step is always added: a picture whole at its own size, which nothing resamples, would be sharper than all others.
    """
    count, whole = len(found), len(settled)
    step = whole / count

    def change(before: float, after: float) -> float:
        return float(
            (render_level(settled, before % whole, True) - render_level(settled, after % whole, True)).abs().mean()
        )

    pairs = range(0, count - 1, -(-count // _MAX_SEAM_CANDIDATES))
    usual = sorted(change(found[i] + step / 2, found[i + 1] + step / 2) for i in pairs)
    stride = max(1, math.ceil(1 / step / _MAX_SEAM_CANDIDATES))
    places = sorted(((j * stride + 0.5) * step for j in range(-_MAX_SEAM_CANDIDATES, _MAX_SEAM_CANDIDATES)), key=abs)
    calmest, least = step / 2, math.inf
    for place in places:
        if abs(place) > 0.5 and least < math.inf:
            break
        seam = change(found[-1] + place, found[0] + place)
        if usual and seam <= _SEAM_TOLERANCE * usual[len(usual) // 2]:
            return place
        if seam < least:
            calmest, least = place, seam
    return calmest


def close_loop(pictures: Sequence[Tensor]) -> list[Tensor]:
    """Pictures, the innermost first, each holding the one before in its middle, and the first one the last.

    Round after round, until what a round changes is smaller than a pixel.
    """
    ring, side = list(pictures), max(pictures[0].shape[-2:])
    for _ in range(math.ceil((math.log2(side) + 1) / len(ring))):
        for k in range(len(ring)):
            ring[k] = insert_centre(pictures[k], ring[k - 1])
    return ring


def downscale(picture: Tensor) -> Tensor:
    """(1, 3, H, W) at half its size, antialiased; both sides even."""
    height, width = picture.shape[-2:]
    return F.interpolate(picture, size=(height // 2, width // 2), mode="bicubic", antialias=True).clamp(-1, 1)


def centre_mask(height: int, width: int) -> Tensor:
    """(1, 1, H, W): 1 within, falling smoothly to 0 at the border; its corners are round (|x|^4 + |y|^4 = 1)."""
    y, x = ((2 * torch.arange(n) + 1) / n - 1 for n in (height, width))
    radius = (y[:, None] ** 4 + x**4) ** 0.25
    share = ((1 - radius) / _MASK_FEATHER).clamp(0, 1)
    return (share * share * (3 - 2 * share))[None, None]


def insert_centre(outer: Tensor, inner: Tensor) -> Tensor:
    """The outer picture with the inner one, at half its size, in its middle: all (1, 3, H, W)."""
    small = downscale(inner)
    (height, width), (h, w) = outer.shape[-2:], small.shape[-2:]
    top, left = (height - h) // 2, (width - w) // 2
    part = outer[..., top : top + h, left : left + w]
    out = outer.clone()
    out[..., top : top + h, left : left + w] = torch.lerp(part, small, centre_mask(h, w).to(outer))
    return out


def match_rims(pictures: Sequence[Tensor], ring: bool = False) -> list[Tensor]:
    """Pictures, the innermost first, whose rims turn into what the next wider one shows there: no edge is left.

    ring: the first is wider than the last.
    """
    if ring:
        return [
            _match_rim(picture, wider) for picture, wider in zip(pictures, (*pictures[1:], pictures[0]), strict=True)
        ]
    settled = list(pictures)
    for k in range(len(settled) - 2, -1, -1):
        settled[k] = _match_rim(settled[k], settled[k + 1])
    return settled


def _match_rim(inner: Tensor, outer: Tensor) -> Tensor:
    """The inner picture, its rim that of the outer one's middle; at half its size it is that middle.

    What its half still lacks is given back to it (back-projection, Irani and Peleg 1991): the two were blended before,
    when the outer one was made, and blended twice they would part at each doubling.
    """
    met = torch.lerp(upscale_centre(outer, 2.0), inner, centre_mask(*inner.shape[-2:]).to(inner))
    height, width = inner.shape[-2:]
    top, left = (height - height // 2) // 2, (width - width // 2) // 2
    middle = (..., slice(top, top + height // 2), slice(left, left + width // 2))
    held = centre_mask(height // 2, width // 2).to(inner)
    for _ in range(_BACK_PROJECTION_ROUNDS):
        lack = torch.zeros_like(outer)
        lack[middle] = torch.where(held < 1, outer[middle] - downscale(met), 0.0)
        met = (met + zoom_about_centre(lack, 2.0, 2)).clamp(-1, 1)
    return met


def upscale_centre(picture: Tensor, zoom: float) -> Tensor:
    """A picture's middle, sharpened by what enlarging takes: the surroundings must not look like another picture."""
    return sharpen(zoom_about_centre(picture, zoom), _UPSCALE_SHARPENING * (zoom - 1))


def render_level(settled: Sequence[Tensor], level: float, ring: bool = False) -> Tensor:
    """What is seen at a level from 0 to that of the widest picture: (1, 3, H, W) in [-1, 1].

    Each picture's middle is the one before, so that only two are needed. ring: after the widest comes the first again.
    """
    k = min(int(level), len(settled) - 1)
    share, inner = level - k, settled[k]
    if share <= 0 or (k + 1 == len(settled) and not ring):
        return inner
    outer = settled[(k + 1) % len(settled)]
    height, width = inner.shape[-2:]
    smaller = homography(Motion(zoom=2**-share), width, height)
    # a hard edge: there the two show the same
    cover = ~uncovered_mask(smaller, height, width)
    return torch.where(cover, zoom_about_centre(inner, 2**-share), upscale_centre(outer, 2 ** (1 - share)))


def zoom_about_centre(picture: Tensor, zoom: float, most: float = 1) -> Tensor:
    """A picture (1, 3, H, W) seen ``zoom`` times as large, around its middle; what lies outside is its rim.

    Antialiased: at 1 the picture itself, at a half what :func:`downscale` makes, so that nothing sharpens or softens at
    once where one picture hands over to the next.
    """
    rows, columns = (_resampling_weights(side, zoom).to(picture) for side in picture.shape[-2:])
    return (rows @ picture @ columns.T).clamp(-most, most)


def _resampling_weights(side: int, zoom: float) -> Tensor:
    """What each pixel seen takes of those there are, (side, side): Keys' cubic (1981, a = -1/2), wider to shrink."""
    pixels = torch.arange(side, dtype=torch.float64)
    middle = (side - 1) / 2
    seen = ((pixels - middle) / zoom + middle).clamp(0, side - 1)
    x = (seen[:, None] - pixels).abs() * min(1.0, zoom)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((2.5 - 0.5 * x) * x - 4) * x + 2
    weights = torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
    return weights / weights.sum(1, keepdim=True)
