"""The camera: a frame's motion as one homography, applied with one interpolation.

Units and signs are Deforum's: shifts in pixels, x right and y down; angles in degrees, positive turns the picture
counter-clockwise; zoom above 1 enlarges; ``translation_z`` in 1/200 of the distance to the picture, positive goes
towards it; ``rotation_3d_x`` tilts the camera up, ``rotation_3d_y`` turns it to the right, ``rotation_3d_z`` turns the
picture counter-clockwise. Knows tensors and geometry; nothing about keyframes or painting.

Shapes: b batch, c channels, H and W a picture's sides. A homography (3, 3) in float64 takes points (x, y, 1) of the
last picture to where they appear in the next, in pixels from the upper left corner: a pixel's centre is at a half.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vqtools.core.errors import UserError

Border = Literal["reflect", "replicate", "wrap", "zeros"]
Outpainter = Callable[[Tensor, Tensor], Tensor]
"""A picture (1, 3, H, W) in [-1, 1] and the mask (1, 1, H, W) of what is unknown -> the picture, filled."""

_MIN_CAMERA_DISTANCE = 0.05  # of the camera's distance: what comes closer is behind the lens, or nearly
GRID_SAMPLE_PADDING: dict[str, str] = {
    "reflect": "reflection",
    "replicate": "border",
    "zeros": "zeros",
    "wrap": "border",
}


class Motion(NamedTuple):
    """What the camera does between two frames."""

    zoom: float = 1.0
    angle: float = 0.0  # degrees
    translation_x: float = 0.0  # pixels
    translation_y: float = 0.0  # pixels
    translation_z: float = 0.0  # 1/200 of the distance
    rotation_3d_x: float = 0.0  # degrees
    rotation_3d_y: float = 0.0  # degrees
    rotation_3d_z: float = 0.0  # degrees
    fov: float = 40.0  # degrees, of the height
    centre_x: float = 0.5  # of the width: what zoom and angle turn about
    centre_y: float = 0.5  # of the height


def homography(motion: Motion, width: int, height: int) -> Tensor:
    """The motion of a picture as one homography: shift, turn and zoom about the centre, then the camera in space.

    UserError where the motion has no picture: a zoom of 0, a camera that passes through the picture.
    """
    m = motion
    if not m.zoom > 0:
        raise UserError(f"zoom {m.zoom:g}: must be more than 0; 1 stands still, below 1 zooms out")
    if not 1 <= m.fov <= 170:
        raise UserError(f"fov {m.fov:g}: must be 1 to 170 degrees")
    x, y = m.centre_x * width, m.centre_y * height
    cosine, sine = (m.zoom * part(math.radians(m.angle)) for part in (math.cos, math.sin))
    turn = _about_point(x, y, [[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
    shift = _matrix([[1, 0, m.translation_x], [0, 1, m.translation_y], [0, 0, 1]])
    flat: Tensor = turn @ shift
    if not any((m.translation_z, m.rotation_3d_x, m.rotation_3d_y, m.rotation_3d_z)):
        return flat
    focal = height / 2 / math.tan(math.radians(m.fov) / 2)
    lens = _matrix([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    pose = _rotation(m.rotation_3d_x, m.rotation_3d_y, m.rotation_3d_z)
    pose[2, 2] -= m.translation_z / 200  # the picture's plane stands at distance 1
    whole: Tensor = lens @ pose @ torch.linalg.inv(lens) @ flat
    corners = _matrix([[0, width, width, 0], [0, 0, height, height], [1, 1, 1, 1]])
    if not bool(((whole @ corners)[2] > _MIN_CAMERA_DISTANCE).all()):
        raise UserError(
            f"translation_z {m.translation_z:g} with rotations {m.rotation_3d_x:g}, {m.rotation_3d_y:g},"
            f" {m.rotation_3d_z:g} takes the camera through the picture; 200 is all the way to it"
        )
    return whole


def _matrix(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def _about_point(x: float, y: float, rows: list[list[float]]) -> Tensor:
    there, back = (_matrix([[1, 0, s * x], [0, 1, s * y], [0, 0, 1]]) for s in (-1, 1))
    out: Tensor = back @ _matrix(rows) @ there
    return out


def _rotation(x: float, y: float, z: float) -> Tensor:
    """Where the world's points (3,) go in the camera's frame, x right, y down, z away: Deforum's Euler angles."""
    turns = []
    for axis, degrees in enumerate((x, y, z)):
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        turn = torch.eye(3, dtype=torch.float64)
        i, j = ((1, 2), (2, 0), (0, 1))[axis]
        turn[i, i] = turn[j, j] = c
        turn[i, j], turn[j, i] = -s, s
        turns.append(turn)
    return (turns[0] @ turns[1] @ turns[2]).T.contiguous()


def rescale_homography(matrix: Tensor, factor: float) -> Tensor:
    """The same motion of a picture ``factor`` times as large: 1/f for a grid of codes."""
    size = torch.diag(torch.tensor([factor, factor, 1.0], dtype=torch.float64))
    out: Tensor = size @ matrix @ torch.linalg.inv(size)
    return out


def warp(
    image: Tensor,
    matrix: Tensor,
    *,
    border: Border = "reflect",
    mode: Literal["bicubic", "bilinear", "nearest"] = "bicubic",
    size: tuple[int, int] | None = None,
) -> Tensor:
    """Move a picture (b, c, H, W) by a homography; the identity gives the picture itself.

    Where the picture shrinks, it is softened first by what its pixels lose. ``size`` is the height and width that is
    seen, the picture's own without. Values may overshoot a little with ``bicubic``; always in fp32.
    """
    height, width = image.shape[-2:]
    seen = size or (height, width)
    if seen == (height, width) and torch.equal(matrix, torch.eye(3, dtype=matrix.dtype)):
        return image
    with torch.autocast(image.device.type, enabled=False):  # bf16 warps are silently off by tenths
        image = image.float()
        if mode != "nearest":
            image = _antialias(image, _local_scale(matrix, width, height), border)
        points = source_points(matrix, *seen)
        if border == "wrap":
            margin = 2  # of a bicubic kernel, which must not end at the seam
            image = _pad_circular(image, margin)
            points = points.remainder(torch.tensor([width, height], dtype=points.dtype)) + margin
        sides = torch.tensor([image.shape[3], image.shape[2]], dtype=points.dtype)
        grid = (2 * points / sides - 1).to(image.device, torch.float32)
        return F.grid_sample(
            image,
            grid.expand(len(image), -1, -1, -1),
            mode=mode,
            padding_mode=GRID_SAMPLE_PADDING[border],
            align_corners=False,
        )


def uncovered_mask(matrix: Tensor, height: int, width: int) -> Tensor:
    """The mask (1, 1, H, W) of pixels that the last picture does not show."""
    points = source_points(matrix, height, width)
    sides = torch.tensor([width, height], dtype=points.dtype)
    return ((points < 0) | (points > sides)).any(-1)[:, None]


def warp_and_outpaint(
    image: Tensor, matrix: Tensor, *, border: Border = "reflect", outpaint: Outpainter | None = None
) -> Tensor:
    """The next frame's beginning: a picture (1, 3, H, W) in [-1, 1] moved, what comes in at the sides filled."""
    moved = warp(image, matrix, border=border).clamp(-1, 1)
    if outpaint is None:
        return moved
    mask = uncovered_mask(matrix, *image.shape[-2:]).to(image.device)
    return outpaint(moved, mask) if bool(mask.any()) else moved


def warp_state(state: Mapping[str, Any], matrix: Tensor, f: int, border: Border = "reflect") -> dict[str, Any]:
    """A Painter's state moved along with its picture: the latents, their average, their start and Adam's memory.

    A second moment goes through a kernel without negative lobes: it stays positive.
    """
    cells = rescale_homography(matrix, 1 / f)
    moved = {name: warp(state[name], cells, border=border) for name in ("latents", "average", "start")}
    adam = {
        name: warp(value, cells, border=border, mode="bicubic" if name == "exp_avg" else "bilinear")
        if value.dim() == 4
        else value
        for name, value in state["adam"].items()
    }
    return {**state, **moved, "adam": adam}


def source_points(matrix: Tensor, height: int, width: int) -> Tensor:
    """Where each pixel's centre of what is seen comes from: (1, height, width, 2) as x, y, in float64."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64) + 0.5, torch.arange(width, dtype=torch.float64) + 0.5, indexing="ij"
    )
    points: Tensor = torch.stack([x, y, torch.ones_like(x)], dim=-1) @ torch.linalg.inv(matrix).T
    # behind the camera there is nothing: a far point stands for it
    return (points[..., :2] / points[..., 2:].clamp(min=1e-6)).unsqueeze(0)


def _local_scale(matrix: Tensor, width: int, height: int) -> float:
    """How much the picture's middle grows, along each side."""
    x, y = width / 2, height / 2
    u, v, w = (float(matrix[i] @ torch.tensor([x, y, 1.0], dtype=matrix.dtype)) for i in range(3))
    rows = [[float(matrix[i, j]) for j in range(2)] for i in range(3)]
    jacobian = [[(rows[i][j] * w - (u, v)[i] * rows[2][j]) / w**2 for j in range(2)] for i in range(2)]
    return math.sqrt(abs(jacobian[0][0] * jacobian[1][1] - jacobian[0][1] * jacobian[1][0]))


def _antialias(image: Tensor, scale: float, border: Border) -> Tensor:
    """A Gaussian that takes away what ``scale`` below 1 cannot show; nothing for shrinking that no eye sees."""
    sigma = 0.5 * math.sqrt(max(0.0, scale**-2 - 1))
    if sigma < 0.25:
        return image
    from kornia.filters import gaussian_blur2d

    reach = min(math.ceil(3 * sigma), min(image.shape[-2:]) - 1)
    if not reach:
        return image
    kind = {"reflect": "reflect", "replicate": "replicate", "wrap": "circular", "zeros": "constant"}[border]
    out: Tensor = gaussian_blur2d(image, 2 * reach + 1, (sigma, sigma), kind)
    return out


def _pad_circular(image: Tensor, margin: int) -> Tensor:
    for side in (2, 3):  # by hand: circular padding is refused where the margin is more than the picture
        at = torch.arange(-margin, image.shape[side] + margin, device=image.device) % image.shape[side]
        image = image.index_select(side, at)
    return image
