"""The pictures of an octave zoom joined into a pyramid, and the view of it at any level.

Picture k is twice as wide a view as picture k - 1, which lies in its centre at half its size. A *level* is the width of
the view in doublings: picture k fills the frame at level k. Knows tensors; nothing about jobs, prompts or files.

Shapes: pictures are (1, 3, H, W) in [-1, 1] with even H and W, the innermost first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vqtools.animation.camera import Motion, homography, uncovered_mask
from vqtools.animation.easing import smoothstep
from vqtools.media.colour import sharpen

_MAX_SEAM_CANDIDATES = 24  # pairs of neighbouring frames, and starts of a loop, that are compared
_SEAM_TOLERANCE = 0.98  # of the median change: that is measured on some of the frames, before they are rounded
_BACK_PROJECTION_ROUNDS = 2
_UPSCALE_SHARPENING = 1.0  # amount of unsharp masking for a picture at twice its size
_MASK_FEATHER = 0.35  # width of the transition between the centre and its surroundings, as a fraction of half a side


def find_loop_offset(matched: Sequence[Tensor], levels: Sequence[float]) -> float:
    """Find the level offset at which the last frame of a loop differs least from the first.

    A loop can start anywhere. Offsets within half a doubling are tried, the smallest first, until the change over the
    seam is at most the median change between neighbouring frames. An offset always contains half a frame's step: a
    picture exactly at its own size is not resampled, so it would be sharper than all other frames.

    matched: from :func:`match_rims`. levels: of the frames, from :func:`loop_levels`.
    """
    count, whole = len(levels), len(matched)
    step = whole / count

    def change(before: float, after: float) -> float:
        first, second = (render_level(matched, level % whole, True) for level in (before, after))
        return float((first - second).abs().mean())

    pairs = range(0, count - 1, -(-count // _MAX_SEAM_CANDIDATES))
    changes = sorted(change(levels[i] + step / 2, levels[i + 1] + step / 2) for i in pairs)
    stride = max(1, math.ceil(1 / step / _MAX_SEAM_CANDIDATES))
    offsets = sorted(((j * stride + 0.5) * step for j in range(-_MAX_SEAM_CANDIDATES, _MAX_SEAM_CANDIDATES)), key=abs)
    best, least = step / 2, math.inf
    for offset in offsets:
        if abs(offset) > 0.5 and least < math.inf:
            break
        seam = change(levels[-1] + offset, levels[0] + offset)
        if changes and seam <= _SEAM_TOLERANCE * changes[len(changes) // 2]:
            return offset
        if seam < least:
            best, least = offset, seam
    return best


def close_loop(pictures: Sequence[Tensor]) -> list[Tensor]:
    """Insert each picture into the centre of the next, and the last one into the first (the Droste effect).

    Repeated until what one more round would change is smaller than a pixel.
    """
    ring, side = list(pictures), max(pictures[0].shape[-2:])
    for _ in range(math.ceil((math.log2(side) + 1) / len(ring))):
        for k in range(len(ring)):
            ring[k] = insert_centre(pictures[k], ring[k - 1])
    return ring


def downscale(picture: Tensor) -> Tensor:
    """Resample a picture to half its size (1, 3, H/2, W/2), antialiased."""
    height, width = picture.shape[-2:]
    return F.interpolate(picture, size=(height // 2, width // 2), mode="bicubic", antialias=True).clamp(-1, 1)


def centre_mask(height: int, width: int) -> Tensor:
    """A mask (1, 1, H, W) of the centre: 1 inside, falling smoothly to 0 on the superellipse |x|^4 + |y|^4 = 1."""
    y, x = ((2 * torch.arange(n) + 1) / n - 1 for n in (height, width))
    radius = (y[:, None] ** 4 + x**4) ** 0.25
    return smoothstep(((1 - radius) / _MASK_FEATHER).clamp(0, 1))[None, None]


def insert_centre(outer: Tensor, inner: Tensor) -> Tensor:
    """Blend the inner picture, at half its size, into the centre of the outer one."""
    small = downscale(inner)
    (height, width), (h, w) = outer.shape[-2:], small.shape[-2:]
    top, left = (height - h) // 2, (width - w) // 2
    part = outer[..., top : top + h, left : left + w]
    out = outer.clone()
    out[..., top : top + h, left : left + w] = torch.lerp(part, small, centre_mask(h, w).to(outer))
    return out


def match_rims(pictures: Sequence[Tensor], ring: bool = False) -> list[Tensor]:
    """Blend each picture's border into what the next wider picture shows there, so that no edge is visible.

    ring: the first picture follows the last.
    """
    if ring:
        wider = (*pictures[1:], pictures[0])
        return [_match_rim(inner, outer) for inner, outer in zip(pictures, wider, strict=True)]
    matched = list(pictures)
    for k in range(len(matched) - 2, -1, -1):
        matched[k] = _match_rim(matched[k], matched[k + 1])
    return matched


def _match_rim(inner: Tensor, outer: Tensor) -> Tensor:
    """The inner picture with the border of the outer one's centre; at half its size it equals that centre.

    Iterative back-projection (Irani and Peleg 1991): the difference that remains at half size is enlarged and added.
    The two pictures were blended once when the outer one was made; blended a second time they would differ at each
    doubling.
    """
    matched = torch.lerp(upscale_centre(outer, 2.0), inner, centre_mask(*inner.shape[-2:]).to(inner))
    height, width = inner.shape[-2:]
    top, left = (height - height // 2) // 2, (width - width // 2) // 2
    centre = (..., slice(top, top + height // 2), slice(left, left + width // 2))
    kept = centre_mask(height // 2, width // 2).to(inner)
    for _ in range(_BACK_PROJECTION_ROUNDS):
        difference = torch.zeros_like(outer)
        difference[centre] = torch.where(kept < 1, outer[centre] - downscale(matched), 0.0)
        matched = (matched + zoom_about_centre(difference, 2.0, 2)).clamp(-1, 1)
    return matched


def upscale_centre(picture: Tensor, zoom: float) -> Tensor:
    """Enlarge a picture's centre, sharpened by as much as resampling blurs it."""
    return sharpen(zoom_about_centre(picture, zoom), _UPSCALE_SHARPENING * (zoom - 1))


def render_level(matched: Sequence[Tensor], level: float, ring: bool = False) -> Tensor:
    """The view (1, 3, H, W) at a level from 0 to that of the widest picture; ring: the first follows the widest.

    Only two pictures are needed, because each one's centre is the picture before.
    """
    k = min(int(level), len(matched) - 1)
    fraction, inner = level - k, matched[k]
    if fraction <= 0 or (k + 1 == len(matched) and not ring):
        return inner
    outer = matched[(k + 1) % len(matched)]
    height, width = inner.shape[-2:]
    smaller = homography(Motion(zoom=2**-fraction), width, height)
    # a hard edge is invisible: both pictures show the same there
    covered = ~uncovered_mask(smaller, height, width)
    return torch.where(covered, zoom_about_centre(inner, 2**-fraction), upscale_centre(outer, 2 ** (1 - fraction)))


def fade_from_previous(view: Tensor, kept: Tensor, before: Tensor, zoom: float, progress: float) -> Tensor:
    """Fade out what the last frame that was kept shows differently from the new pictures.

    view: the new pictures at this frame's level. kept: the last kept frame. before: the new pictures at the level of
    ``kept``. zoom: how much larger ``view`` shows things than ``kept``. progress: 0 at ``kept``, 1 at the end of the
    fade.
    """
    difference = zoom_about_centre(kept - before, zoom, 2)
    if zoom > 1:  # details too fine for the kept frame are those of other pictures where the difference is large
        replaced = F.max_pool2d(difference.abs().amax(1, keepdim=True), 3, 1, 1).clamp(max=1)
        difference = difference - replaced * (view - zoom_about_centre(before, zoom))
    return (view + (1 - smoothstep(progress)) * difference).clamp(-1, 1)


def zoom_about_centre(picture: Tensor, zoom: float, limit: float = 1) -> Tensor:
    """Resample a picture to ``zoom`` times its size about its centre, cropped or extended by its border to (H, W).

    Antialiased. At 1 it is the picture itself, and at 1/2 what :func:`downscale` makes, so that sharpness does not jump
    where one picture replaces the next. Values are clipped to [-limit, limit].
    """
    rows, columns = (_resampling_weights(side, zoom).to(picture) for side in picture.shape[-2:])
    return (rows @ picture @ columns.T).clamp(-limit, limit)


def _resampling_weights(side: int, zoom: float) -> Tensor:
    """The weights (side, side) of source pixels for each output pixel: Keys' cubic convolution (1981, a = -1/2).

    For zoom below 1 the kernel is widened by 1/zoom, which antialiases.
    """
    pixels = torch.arange(side, dtype=torch.float64)
    middle = (side - 1) / 2
    source = ((pixels - middle) / zoom + middle).clamp(0, side - 1)
    x = (source[:, None] - pixels).abs() * min(1.0, zoom)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((2.5 - 0.5 * x) * x - 4) * x + 2  # Keys 1981: |x| < 1, and 1 <= |x| < 2
    weights = torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
    return weights / weights.sum(1, keepdim=True)
