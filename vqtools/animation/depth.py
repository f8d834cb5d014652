"""The camera among things that are near and far: each pixel moves by its own distance.

Distances are given with the picture; without any, everything lies on one plane and the motion is the homography of
camera.py. Knows tensors and geometry; which network sees the depth is handed in.

Shapes: pictures (1, c, H, W); distances (1, 1, H, W), 1 for the plane that the picture otherwise is.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from vqtools.animation.camera import GRID_SAMPLE_PADDING, Border, Motion, homography

DepthEstimator = Callable[[Tensor], Tensor]
"""A picture (1, 3, H, W) in [-1, 1] -> how far each pixel is (1, 1, H, W)."""

NEAREST = 0.5
FARTHEST = 4.0
_DEPTH_LAYERS = 24  # distances for which the motion is computed; between them it is interpolated
_FIXED_POINT_ITERATIONS = 4  # of finding the pixel that comes to a place: where it lies depends on how far it is


def disparity_to_distance(disparity: Tensor) -> Tensor:
    """What depth networks say, more for nearer, of any scale -> distances around 1, the median's."""
    low, high = disparity.amin(), disparity.amax()
    if float(high - low) < 1e-6:
        return torch.ones_like(disparity)
    near = 0.25 + 1.75 * (disparity - low) / (high - low)  # 1/4 … 2: nothing infinitely far
    return (near.median() / near).clamp(NEAREST, FARTHEST)


def source_points_by_depth(motion: Motion, far: Tensor) -> Tensor:
    """Where each pixel of the next picture comes from in the last: (1, H, W, 2) as x, y in pixels."""
    height, width = far.shape[-2:]
    levels = torch.linspace(0, 1, _DEPTH_LAYERS, dtype=torch.float64)
    steps = torch.exp(torch.log(torch.tensor(NEAREST)) + levels * torch.log(torch.tensor(FARTHEST / NEAREST)))
    back = torch.stack(
        [torch.linalg.inv(_plane_homography(motion, float(step), width, height)) for step in steps]
    )  # (n, 3, 3)
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64) + 0.5, torch.arange(width, dtype=torch.float64) + 0.5, indexing="ij"
    )
    ends = torch.stack([x, y, torch.ones_like(x)], dim=-1)
    place = torch.log(far[0, 0].double() / NEAREST) / torch.log(torch.tensor(FARTHEST / NEAREST)) * (_DEPTH_LAYERS - 1)
    found = ends[..., :2]
    for _ in range(_FIXED_POINT_ITERATIONS):
        grid = 2 * found / torch.tensor([width, height], dtype=found.dtype) - 1
        here = F.grid_sample(
            place[None, None], grid[None], mode="bilinear", padding_mode="border", align_corners=False
        )[0, 0].clamp(0, _DEPTH_LAYERS - 1)
        low = here.floor().clamp(max=_DEPTH_LAYERS - 2).long()
        share = (here - low)[..., None, None]
        matrix = back[low] * (1 - share) + back[low + 1] * share
        point = (matrix @ ends[..., None])[..., 0]
        found = point[..., :2] / point[..., 2:].clamp(min=1e-6)
    return found[None]


def _plane_homography(motion: Motion, distance: float, width: int, height: int) -> Tensor:
    """The homography of a plane at a distance: what is far moves less."""
    return homography(
        motion._replace(
            translation_x=motion.translation_x / distance, translation_y=motion.translation_y / distance,
            translation_z=motion.translation_z / distance,
        ),
        width, height,
    )  # fmt: skip


def warp_by_depth(image: Tensor, motion: Motion, far: Tensor, border: Border = "reflect") -> Tensor:
    """A picture moved by the camera, each pixel by its distance. What comes out from behind is what was beside it."""
    if motion == Motion(fov=motion.fov, centre_x=motion.centre_x, centre_y=motion.centre_y):
        return image
    points = source_points_by_depth(motion, far)
    sides = torch.tensor([image.shape[3], image.shape[2]], dtype=points.dtype)
    if border == "wrap":
        points = points.remainder(sides)
    grid = (2 * points / sides - 1).to(image.device, torch.float32)
    with torch.autocast(image.device.type, enabled=False):
        return F.grid_sample(
            image.float(), grid, mode="bicubic", padding_mode=GRID_SAMPLE_PADDING[border], align_corners=False
        )
