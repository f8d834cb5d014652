"""Decoding in strips: images that are too large for one pass of a VQGAN's decoder.

The decoder's lowest levels have attention over the whole image, but are small. The upper levels consist of
convolutions, which need neighbouring rows, and of group norms, which need the mean and variance of the whole feature
map. The upper levels therefore run layer by layer, each in strips of rows, with norms that use the statistics of the
whole map. Nothing is approximated and there are no seams; but feature maps are stored in half precision between layers.

Knows the layers of a VQGAN's decoder; nothing about files.

Shapes: a feature map ("plane") of one image is (c, H, W).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqtools.models.vqgan import VQGAN, ResnetBlock, ResolutionLevel, Upsample

MAX_WHOLE_NUMEL = 2**24  # levels whose feature maps are at most so large run in one pass
STRIP_NUMEL = 2**23  # approximate size of a strip

RowReader = Callable[[int, int], Tensor]
"""Returns the rows from first to last (exclusive) as (1, c, last - first, W) in fp32, with zeros outside the map."""


@torch.no_grad()
def decode_in_strips(vqgan: VQGAN, latents: Tensor) -> Tensor:
    """Decode quantised latents (1, c, h, w) to an image (1, 3, H, W) like ``vqgan.decode_latents``; no gradient.

    4096 x 4096 pixels take less than 10 GB with the public f16 model, and 75 GB in one pass.
    """
    image = _decode_strips(vqgan, latents, torch.float16)
    # fp32 for networks whose activations exceed the range of fp16
    return image if image.isfinite().all() else _decode_strips(vqgan, latents, torch.float32)


def decode_any_size(vqgan: VQGAN, codes: Tensor) -> Tensor:
    """Decode codes (1, h, w) to an image (1, 3, H, W): in one pass up to 1024 x 1024 pixels, else in strips."""
    latents = vqgan.codes_to_latents(codes)
    large = codes[0].numel() * vqgan.f**2 > 1024**2
    return decode_in_strips(vqgan, latents) if large else vqgan.decode_latents(latents)


def _decode_strips(vqgan: VQGAN, latents: Tensor, storage: torch.dtype) -> Tensor:
    """Decode with feature maps stored in ``storage`` between the layers of the upper levels."""
    decoder = vqgan.decoder
    x = decoder.mid(decoder.conv_in(vqgan.post_quant_conv(latents)))
    levels = cast(list[ResolutionLevel], list(reversed(decoder.up)))
    while levels and (len(levels[0].attn) or _largest_map_numel(levels[0], x) <= MAX_WHOLE_NUMEL):
        x = levels.pop(0)(x)
    plane = x[0].to(storage)
    del x
    for level in levels:
        for block in level.block:
            plane = resnet_block_in_strips(cast(ResnetBlock, block), plane)
        if hasattr(level, "upsample"):
            plane = upsample_in_strips(cast(Upsample, level.upsample).conv, plane)
    image = conv3x3_in_strips(
        decoder.conv_out, group_norm_rows(decoder.norm_out, plane), plane, plane.new_empty(0).float()
    )
    return F.pixel_shuffle(image[None], decoder.patch) if decoder.patch > 1 else image[None]


def _largest_map_numel(level: ResolutionLevel, x: Tensor) -> int:
    """Return the size of the largest feature map that a level computes from x."""
    factor = 4 if hasattr(level, "upsample") else 1
    last = cast(ResnetBlock, level.block[-1])
    return max(x.numel(), factor * last.conv2.out_channels * x.shape[2] * x.shape[3])


def strip_bounds(plane: Tensor, step: int = 2) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of strips of rows that cover a map, each about ``STRIP_NUMEL`` large, with even bounds."""
    rows = max(step, STRIP_NUMEL // (plane.shape[0] * plane.shape[2]) // step * step)
    return ((first, min(first + rows, plane.shape[1])) for first in range(0, plane.shape[1], rows))


def padded_rows(plane: Tensor, first: int, last: int, transform: Callable[[Tensor], Tensor]) -> Tensor:
    """Return transformed rows of a map, with zeros for rows outside: convolutions pad after the activation."""
    inside = transform(plane[None, :, max(first, 0) : min(last, plane.shape[1])].float())
    return F.pad(inside, (0, 0, max(-first, 0), max(last - plane.shape[1], 0)))


def group_norm_rows(norm: nn.GroupNorm, plane: Tensor) -> RowReader:
    """Return a reader of a map's rows after SiLU and a group norm with the statistics of the whole map."""
    total = plane.new_zeros(2, norm.num_groups, dtype=torch.float64)
    for first, last in strip_bounds(plane):
        groups = plane[:, first:last].double().reshape(norm.num_groups, -1)
        total += torch.stack([groups.sum(1), groups.square().sum(1)])
    mean, square = total / (plane.numel() // norm.num_groups)
    scale = (square - mean.square() + norm.eps).rsqrt().repeat_interleave(plane.shape[0] // norm.num_groups)
    shift = -mean.repeat_interleave(plane.shape[0] // norm.num_groups) * scale
    weight, bias = norm.weight * scale.float(), norm.weight * shift.float() + norm.bias
    return lambda first, last: padded_rows(
        plane, first, last, lambda x: F.silu(x * weight[:, None, None] + bias[:, None, None])
    )


def conv3x3_in_strips(conv: nn.Conv2d, rows: RowReader, like: Tensor, out: Tensor) -> Tensor:
    """Apply a 3x3 convolution to the rows of a map with the sides of ``like``; the result has the dtype of ``out``."""
    result = out.new_empty(conv.out_channels, *like.shape[1:])
    for first, last in strip_bounds(like):
        result[:, first:last] = F.conv2d(rows(first - 1, last + 1), conv.weight, conv.bias, padding=(0, 1))[0]
    return result


def resnet_block_in_strips(block: ResnetBlock, plane: Tensor) -> Tensor:
    """Apply a residual block, in place if it does not change the number of channels."""
    inner = conv3x3_in_strips(block.conv1, group_norm_rows(block.norm1, plane), plane, plane)
    rows = group_norm_rows(block.norm2, inner)
    same = not hasattr(block, "nin_shortcut")
    result = plane if same else torch.empty_like(inner)
    for first, last in strip_bounds(plane):
        shortcut = plane[None, :, first:last].float()
        shortcut = shortcut if same else block.nin_shortcut(shortcut)
        residual = F.conv2d(rows(first - 1, last + 1), block.conv2.weight, block.conv2.bias, padding=(0, 1))
        result[:, first:last] = (shortcut + residual)[0]
    return result


def upsample_in_strips(conv: nn.Conv2d, plane: Tensor) -> Tensor:
    """Double both sides with nearest-neighbour interpolation, then apply a 3x3 convolution."""
    _, height, width = plane.shape
    result = plane.new_empty(conv.out_channels, 2 * height, 2 * width)
    for first, last in strip_bounds(result):
        # one row more on each side than the convolution needs, because each source row becomes two
        source = padded_rows(plane, first // 2 - 1, last // 2 + 1, lambda x: x)
        doubled = F.interpolate(source, scale_factor=2.0, mode="nearest")[:, :, 1:-1]
        result[:, first:last] = F.conv2d(doubled, conv.weight, conv.bias, padding=(0, 1))[0]
    return result
