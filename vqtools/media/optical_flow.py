"""Optical flow: where each pixel of one picture has gone in another, and what can be carried along it.

DIS (Kroeger et al. 2016, arXiv 1603.03590) by OpenCV. Knows pictures; nothing about painting or video files.

Shapes: pictures (1, 3, H, W) in [-1, 1]; a flow (1, H, W, 2) says for each pixel of the first picture how far it has
moved in the second, x right and y down, in pixels.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_MIN_DIS_SIDE = 96  # pixels of the shorter side that DIS looks at: it knows no smaller pictures
_BRIGHTNESS_TOLERANCE = 24 / 127.5  # difference of light at which a carried pixel is half believed


def estimate_flow(first: Tensor, second: Tensor) -> Tensor:
    """The flow from one picture to another of its size, in float32 on the CPU."""
    cv2: Any = importlib.import_module("cv2")  # its own types leave DIS out
    height, width = first.shape[-2:]
    scale = max(1.0, _MIN_DIS_SIDE / min(height, width))
    sides = (round(height * scale), round(width * scale))
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    found: Any = dis.calc(_grey(first, sides), _grey(second, sides), None)
    out = torch.from_numpy(found)[None]
    if sides != (height, width):
        out = F.interpolate(out.permute(0, 3, 1, 2), size=(height, width), mode="bilinear").permute(0, 2, 3, 1)
        out = out * torch.tensor([width / sides[1], height / sides[0]])
    return out.contiguous()


def _grey(image: Tensor, sides: tuple[int, int]) -> Any:
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    grey = (image.detach().float().cpu() * weights).sum(1, keepdim=True)
    if grey.shape[-2:] != sides:
        grey = F.interpolate(grey, size=sides, mode="bilinear")
    return grey[0, 0].add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).contiguous().numpy()


def warp_by_flow(image: Tensor, away: Tensor) -> Tensor:
    """What stands in ``image`` (b, c, H, W), where a flow on the wanted picture's pixels points to."""
    height, width = image.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    points = torch.stack([x, y], -1) + away
    grid = (2 * points / torch.tensor([width, height]) - 1).to(image.device, torch.float32)
    with torch.autocast(image.device.type, enabled=False):  # bf16 warps are off by tenths
        return F.grid_sample(
            image.float(), grid.expand(len(image), -1, -1, -1), mode="bicubic", padding_mode="border",
            align_corners=False,
        )  # fmt: skip


def flow_confidence(away: Tensor, back: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """How far each pixel of the first picture is known in the second: (1, 1, H, W), 1 surely, 0 hidden or new.

    Going there along ``away`` and home along ``back`` must end where it began (Sundaram et al. 2010), and the light
    must be the same.
    """
    home = warp_by_flow(back.permute(0, 3, 1, 2), away).permute(0, 2, 3, 1)
    gap = (away + home).square().sum(-1)
    allowed = 0.01 * (away.square().sum(-1) + home.square().sum(-1)) + 0.5
    same = (warp_by_flow(second, away).to(first) - first).abs().mean(1)
    share = torch.exp(-(gap / allowed).square()) * torch.exp(-(same.cpu() / _BRIGHTNESS_TOLERANCE).square() * 0.7)
    height, width = first.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    points = torch.stack([x, y], -1) + away
    inside = ((points >= 0) & (points <= torch.tensor([width, height]))).all(-1)
    return (share * inside)[:, None]


def interpolate_by_flow(
    first: Tensor, second: Tensor, share: float, ways: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """The picture at a share from 0 to 1 of the way: both moved along the flow to where things are then, and blended.

    Flows at a time in between as in Jiang et al. 2018 (arXiv 1712.00080). ways: the flows there and back, if known.
    """
    if share <= 0 or share >= 1:
        return first if share <= 0 else second
    there, back = ways or (estimate_flow(first, second), estimate_flow(second, first))
    to_first = -(1 - share) * share * there + share * share * back
    to_second = (1 - share) * (1 - share) * there - share * (1 - share) * back
    return torch.lerp(warp_by_flow(first, to_first), warp_by_flow(second, to_second), share).clamp(-1, 1)
