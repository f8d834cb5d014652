"""Camera motion with parallax: each pixel moves according to its own distance.

With all distances equal, the motion is the homography of camera.py. Knows tensors and geometry; the network that
estimates depth is an argument.

Shapes: images (1, c, H, W); distances (1, 1, H, W), where 1 is the distance of the plane in camera.py.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from vqtools.animation.camera import GRID_SAMPLE_PADDING, Border, Motion, homography

DepthEstimator = Callable[[Tensor], Tensor]
"""Estimates the distance (1, 1, H, W) of each pixel of an image (1, 3, H, W) in [-1, 1]."""

MIN_DISTANCE = 0.5
MAX_DISTANCE = 4.0
_DEPTH_LAYERS = 24  # planes for which the homography is computed; it is interpolated between them
_FIXED_POINT_ITERATIONS = 4  # a pixel's source depends on the distance at that source


def disparity_to_distance(disparity: Tensor) -> Tensor:
    """Convert the output of depth networks (any scale, larger is nearer) to distances with a median of 1."""
    low, high = disparity.amin(), disparity.amax()
    if float(high - low) < 1e-6:
        return torch.ones_like(disparity)
    nearness = 0.25 + 1.75 * (disparity - low) / (high - low)  # 1/4 to 2, so that nothing is infinitely far
    return (nearness.median() / nearness).clamp(MIN_DISTANCE, MAX_DISTANCE)


def source_points_by_depth(motion: Motion, distance: Tensor) -> Tensor:
    """The source (x, y) in the last image of each pixel of the next: (1, H, W, 2) in pixels.

    Fixed-point iteration: look up the distance at the current estimate, then apply the inverse homography of the plane
    at that distance. The inverse is interpolated between planes that are spaced evenly in log distance.
    """
    height, width = distance.shape[-2:]
    fractions = torch.linspace(0, 1, _DEPTH_LAYERS, dtype=torch.float64)
    log_range = torch.log(torch.tensor(MAX_DISTANCE / MIN_DISTANCE))
    planes = torch.exp(torch.log(torch.tensor(MIN_DISTANCE)) + fractions * log_range)
    inverses = torch.stack(
        [torch.linalg.inv(_plane_homography(motion, float(plane), width, height)) for plane in planes]
    )  # (layers, 3, 3)
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64) + 0.5, torch.arange(width, dtype=torch.float64) + 0.5, indexing="ij"
    )
    targets = torch.stack([x, y, torch.ones_like(x)], dim=-1)
    layer = torch.log(distance[0, 0].double() / MIN_DISTANCE) / log_range * (_DEPTH_LAYERS - 1)
    source = targets[..., :2]
    for _ in range(_FIXED_POINT_ITERATIONS):
        grid = 2 * source / torch.tensor([width, height], dtype=source.dtype) - 1
        here = F.grid_sample(
            layer[None, None], grid[None], mode="bilinear", padding_mode="border", align_corners=False
        )[0, 0].clamp(0, _DEPTH_LAYERS - 1)
        low = here.floor().clamp(max=_DEPTH_LAYERS - 2).long()
        fraction = (here - low)[..., None, None]
        matrix = inverses[low] * (1 - fraction) + inverses[low + 1] * fraction
        point = (matrix @ targets[..., None])[..., 0]
        source = point[..., :2] / point[..., 2:].clamp(min=1e-6)
    return source[None]


def _plane_homography(motion: Motion, distance: float, width: int, height: int) -> Tensor:
    """The homography of a plane at a distance d: translations count 1/d, the t / d of camera.homography."""
    return homography(
        motion._replace(
            translation_x=motion.translation_x / distance,
            translation_y=motion.translation_y / distance,
            translation_z=motion.translation_z / distance,
        ),
        width,
        height,
    )


def warp_by_depth(image: Tensor, motion: Motion, distance: Tensor, border: Border = "reflect") -> Tensor:
    """Warp an image by the camera's motion, each pixel by its distance.

    What becomes visible from behind something near is filled with what was beside it.
    """
    if motion == Motion(fov=motion.fov, centre_x=motion.centre_x, centre_y=motion.centre_y):
        return image
    points = source_points_by_depth(motion, distance)
    sides = torch.tensor([image.shape[3], image.shape[2]], dtype=points.dtype)
    if border == "wrap":
        points = points.remainder(sides)
    grid = (2 * points / sides - 1).to(image.device, torch.float32)
    with torch.autocast(image.device.type, enabled=False):
        return F.grid_sample(
            image.float(), grid, mode="bicubic", padding_mode=GRID_SAMPLE_PADDING[border], align_corners=False
        )
