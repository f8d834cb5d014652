"""Optical flow between two images: estimation, warping, confidence and frame interpolation.

The flow is DIS (Kroeger et al. 2016, arXiv 1603.03590) of OpenCV. Works on tensors; knows nothing about painting or
video files.

Shapes: images are (1, 3, H, W) in [-1, 1]. A flow (1, H, W, 2) from a first to a second image gives for each pixel of
the first its displacement (x right, y down) in pixels.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_MIN_DIS_SIDE = 96  # pixels; DIS fails on smaller images
_BRIGHTNESS_TOLERANCE = 24 / 127.5  # brightness difference that halves the confidence


def estimate_flow(first: Tensor, second: Tensor) -> Tensor:
    """Estimate the flow from an image to another of the same size. Returns float32 on the CPU."""
    cv2: Any = importlib.import_module("cv2")  # OpenCV's type hints lack DIS
    height, width = first.shape[-2:]
    scale = max(1.0, _MIN_DIS_SIDE / min(height, width))
    sides = (round(height * scale), round(width * scale))
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow: Any = dis.calc(_to_grey(first, sides), _to_grey(second, sides), None)
    out = torch.from_numpy(flow)[None]
    if sides != (height, width):
        out = F.interpolate(out.permute(0, 3, 1, 2), size=(height, width), mode="bilinear").permute(0, 2, 3, 1)
        out = out * torch.tensor([width / sides[1], height / sides[0]])
    return out.contiguous()


def warp_by_flow(image: Tensor, flow: Tensor) -> Tensor:
    """Backward-warp an image (b, c, H, W): sample it where the flow (1, H, W, 2) of each output pixel points."""
    height, width = image.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    points = torch.stack([x, y], -1) + flow
    grid = (2 * points / torch.tensor([width, height]) - 1).to(image.device, torch.float32)
    with torch.autocast(image.device.type, enabled=False):  # in bf16 warps are off by tenths of a pixel
        return F.grid_sample(
            image.float(),
            grid.expand(len(image), -1, -1, -1),
            mode="bicubic",
            padding_mode="border",
            align_corners=False,
        )


def flow_confidence(forward: Tensor, backward: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Return how certain it is that each pixel of the first image is visible in the second: (1, 1, H, W) in [0, 1].

    forward, backward: the flows from the first image to the second, and back. Following both must lead back to the same
    pixel (Sundaram et al. 2010, Dense point trajectories by GPU-accelerated large displacement optical flow, eq. 5),
    and the brightness must be the same.
    """
    returning = warp_by_flow(backward.permute(0, 3, 1, 2), forward).permute(0, 2, 3, 1)
    gap = (forward + returning).square().sum(-1)
    tolerance = 0.01 * (forward.square().sum(-1) + returning.square().sum(-1)) + 0.5
    difference = (warp_by_flow(second, forward).to(first) - first).abs().mean(1).cpu()
    consistency = torch.exp(-(gap / tolerance).square())
    confidence = consistency * torch.exp(-(difference / _BRIGHTNESS_TOLERANCE).square() * 0.7)
    height, width = first.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    points = torch.stack([x, y], -1) + forward
    inside = ((points >= 0) & (points <= torch.tensor([width, height]))).all(-1)
    return (confidence * inside)[:, None]


def interpolate_by_flow(first: Tensor, second: Tensor, t: float, flows: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Interpolate between two images at time t in [0, 1]: warp both to that time, and blend them.

    Jiang et al. 2018 (Super SloMo), arXiv 1712.00080. flows: from the first to the second and back, if known.
    """
    if t <= 0 or t >= 1:
        return first if t <= 0 else second
    forward, backward = flows or (estimate_flow(first, second), estimate_flow(second, first))
    # Super SloMo, eq. 4
    to_first = -(1 - t) * t * forward + t * t * backward
    to_second = (1 - t) * (1 - t) * forward - t * (1 - t) * backward
    return torch.lerp(warp_by_flow(first, to_first), warp_by_flow(second, to_second), t).clamp(-1, 1)


def _to_grey(image: Tensor, sides: tuple[int, int]) -> Any:
    """Convert an image to a uint8 array (H, W) of its luma (Rec. 601), resized to (height, width)."""
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    grey = (image.detach().float().cpu() * weights).sum(1, keepdim=True)
    if grey.shape[-2:] != sides:
        grey = F.interpolate(grey, size=sides, mode="bilinear")
    return grey[0, 0].add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).contiguous().numpy()
