"""Camera motion: the motion of one frame as a homography, applied with a single resampling.

Units and signs are those of Deforum Stable Diffusion: shifts in pixels, x to the right and y down; angles in degrees,
positive turns the image counter-clockwise; zoom above 1 enlarges; ``translation_z`` in 1/200 of the distance to the
image, positive moves towards it; ``rotation_3d_x`` tilts the camera up, ``rotation_3d_y`` turns it right,
``rotation_3d_z`` turns the image counter-clockwise. Knows tensors and geometry; nothing about keyframes or painting.

Shapes: b batch, c channels, H and W an image's height and width. A homography (3, 3) in float64 maps homogeneous points
(x, y, 1) of the last image to the next, in pixels from the upper left corner; a pixel's centre is at a half.
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
"""Fills an image (1, 3, H, W) in [-1, 1] where a mask (1, 1, H, W) is true."""

_MIN_CAMERA_DISTANCE = 0.05  # of the image's distance: what comes closer is behind the lens, or nearly
GRID_SAMPLE_PADDING: dict[Border, str] = {
    "reflect": "reflection",
    "replicate": "border",
    "zeros": "zeros",
    "wrap": "border",  # after the coordinates were taken modulo the size
}
_BLUR_PADDING: dict[Border, str] = {
    "reflect": "reflect",
    "replicate": "replicate",
    "zeros": "constant",
    "wrap": "circular",
}


class Motion(NamedTuple):
    """The camera's motion between two frames."""

    zoom: float = 1.0
    angle: float = 0.0  # degrees
    translation_x: float = 0.0  # pixels
    translation_y: float = 0.0  # pixels
    translation_z: float = 0.0  # 1/200 of the distance
    rotation_3d_x: float = 0.0  # degrees
    rotation_3d_y: float = 0.0  # degrees
    rotation_3d_z: float = 0.0  # degrees
    fov: float = 40.0  # degrees, vertical
    centre_x: float = 0.5  # fraction of the width: the fixed point of zoom and angle
    centre_y: float = 0.5  # fraction of the height


def homography(motion: Motion, width: int, height: int) -> Tensor:
    """The motion of an image of width x height pixels as one homography (3, 3).

    First shift, rotation and zoom in the plane, then the camera in space, for which the image is a plane at distance 1.
    UserError for a motion without an image: a zoom of 0, or a camera that passes through the plane.
    """
    m = motion
    if not m.zoom > 0:
        raise UserError(f"zoom {m.zoom:g}: must be more than 0; 1 keeps the size, below 1 zooms out")
    if not 1 <= m.fov <= 170:
        raise UserError(f"fov {m.fov:g}: must be 1 to 170 degrees")
    x, y = m.centre_x * width, m.centre_y * height
    cosine, sine = (m.zoom * function(math.radians(m.angle)) for function in (math.cos, math.sin))
    similarity = _about_point(x, y, [[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
    shift = _matrix([[1, 0, m.translation_x], [0, 1, m.translation_y], [0, 0, 1]])
    planar: Tensor = similarity @ shift
    if not any((m.translation_z, m.rotation_3d_x, m.rotation_3d_y, m.rotation_3d_z)):
        return planar
    # the homography that a plane induces, K (R - t n^T / d) K^-1 (Hartley and Zisserman 2004, section 13.1),
    # with n = (0, 0, 1), d = 1 and t = (0, 0, translation_z / 200)
    focal = height / 2 / math.tan(math.radians(m.fov) / 2)
    intrinsics = _matrix([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    pose = _rotation(m.rotation_3d_x, m.rotation_3d_y, m.rotation_3d_z)
    pose[2, 2] -= m.translation_z / 200
    whole: Tensor = intrinsics @ pose @ torch.linalg.inv(intrinsics) @ planar
    corners = _matrix([[0, width, width, 0], [0, 0, height, height], [1, 1, 1, 1]])
    if not bool(((whole @ corners)[2] > _MIN_CAMERA_DISTANCE).all()):
        raise UserError(
            f"translation_z {m.translation_z:g} with rotations {m.rotation_3d_x:g}, {m.rotation_3d_y:g},"
            f" {m.rotation_3d_z:g} moves the camera through the picture; 200 is the whole distance"
        )
    return whole


def _matrix(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def _about_point(x: float, y: float, rows: list[list[float]]) -> Tensor:
    """A linear map (3, 3) applied about the point (x, y) instead of the origin."""
    to_origin, back = (_matrix([[1, 0, s * x], [0, 1, s * y], [0, 0, 1]]) for s in (-1, 1))
    out: Tensor = back @ _matrix(rows) @ to_origin
    return out


def _rotation(x: float, y: float, z: float) -> Tensor:
    """The rotation (3, 3) from world to camera coordinates (x right, y down, z away): Deforum's Euler angles XYZ."""
    rotations = []
    for axis, degrees in enumerate((x, y, z)):
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        rotation = torch.eye(3, dtype=torch.float64)
        i, j = ((1, 2), (2, 0), (0, 1))[axis]
        rotation[i, i] = rotation[j, j] = c
        rotation[i, j], rotation[j, i] = -s, s
        rotations.append(rotation)
    return (rotations[0] @ rotations[1] @ rotations[2]).T.contiguous()


def rescale_homography(matrix: Tensor, factor: float) -> Tensor:
    """The same motion for an image ``factor`` times as large: 1/f for the latent grid."""
    scale = torch.diag(torch.tensor([factor, factor, 1.0], dtype=torch.float64))
    out: Tensor = scale @ matrix @ torch.linalg.inv(scale)
    return out


def warp(
    image: Tensor,
    matrix: Tensor,
    *,
    border: Border = "reflect",
    mode: Literal["bicubic", "bilinear", "nearest"] = "bicubic",
    size: tuple[int, int] | None = None,
) -> Tensor:
    """Warp images (b, c, H, W) by a homography; the identity returns the images themselves.

    An image that shrinks is blurred first, against aliasing. size: height and width of the result; the image's own by
    default. Values can overshoot a little with ``bicubic``. Always computed in fp32.
    """
    height, width = image.shape[-2:]
    out_size = size or (height, width)
    if out_size == (height, width) and torch.equal(matrix, torch.eye(3, dtype=matrix.dtype)):
        return image
    with torch.autocast(image.device.type, enabled=False):  # bf16 coordinates are off by tenths of a pixel
        image = image.float()
        if mode != "nearest":
            image = _antialias(image, _local_scale(matrix, width, height), border)
        points = source_points(matrix, *out_size)
        if border == "wrap":
            margin = 2  # the reach of a bicubic kernel, which must see across the seam
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
    """The mask (1, 1, H, W) of pixels that the warped image does not cover."""
    points = source_points(matrix, height, width)
    sides = torch.tensor([width, height], dtype=points.dtype)
    return ((points < 0) | (points > sides)).any(-1)[:, None]


def warp_and_outpaint(
    image: Tensor, matrix: Tensor, *, border: Border = "reflect", outpaint: Outpainter | None = None
) -> Tensor:
    """Warp an image (1, 3, H, W) in [-1, 1] and fill what it does not cover with ``outpaint``, if given."""
    warped = warp(image, matrix, border=border).clamp(-1, 1)
    if outpaint is None:
        return warped
    mask = uncovered_mask(matrix, *image.shape[-2:]).to(image.device)
    return outpaint(warped, mask) if bool(mask.any()) else warped


def warp_state(state: Mapping[str, Any], matrix: Tensor, f: int, border: Border = "reflect") -> dict[str, Any]:
    """Warp a Painter's state: the latents, their moving average, their start, and Adam's moments.

    Second moments are resampled bilinearly: a kernel without negative lobes keeps them positive.
    """
    cells = rescale_homography(matrix, 1 / f)
    latents = {name: warp(state[name], cells, border=border) for name in ("latents", "average", "start")}
    adam = {
        name: warp(value, cells, border=border, mode="bicubic" if name == "exp_avg" else "bilinear")
        if value.dim() == 4
        else value
        for name, value in state["adam"].items()
    }
    return {**state, **latents, "adam": adam}


def source_points(matrix: Tensor, height: int, width: int) -> Tensor:
    """The source (x, y) of each pixel of the result: (1, height, width, 2) in float64, by the inverse homography."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64) + 0.5, torch.arange(width, dtype=torch.float64) + 0.5, indexing="ij"
    )
    points: Tensor = torch.stack([x, y, torch.ones_like(x)], dim=-1) @ torch.linalg.inv(matrix).T
    # nothing is visible behind the camera: use a far point
    return (points[..., :2] / points[..., 2:].clamp(min=1e-6)).unsqueeze(0)


def _local_scale(matrix: Tensor, width: int, height: int) -> float:
    """The factor by which the image's centre grows: the square root of the Jacobian determinant there."""
    x, y = width / 2, height / 2
    u, v, w = (float(matrix[i] @ torch.tensor([x, y, 1.0], dtype=matrix.dtype)) for i in range(3))
    rows = [[float(matrix[i, j]) for j in range(2)] for i in range(3)]
    # d(u / w) / dx = (u' w - u w') / w^2
    jacobian = [[(rows[i][j] * w - (u, v)[i] * rows[2][j]) / w**2 for j in range(2)] for i in range(2)]
    return math.sqrt(abs(jacobian[0][0] * jacobian[1][1] - jacobian[0][1] * jacobian[1][0]))


def _antialias(image: Tensor, scale: float, border: Border) -> Tensor:
    """Blur by a Gaussian that removes what a scale below 1 cannot show; unchanged if the scale is almost 1."""
    sigma = 0.5 * math.sqrt(max(0.0, scale**-2 - 1))
    if sigma < 0.25:
        return image
    from kornia.filters import gaussian_blur2d

    reach = min(math.ceil(3 * sigma), min(image.shape[-2:]) - 1)
    if not reach:
        return image
    out: Tensor = gaussian_blur2d(image, 2 * reach + 1, (sigma, sigma), _BLUR_PADDING[border])
    return out


def _pad_circular(image: Tensor, margin: int) -> Tensor:
    """Repeat images (b, c, H, W) periodically by ``margin`` pixels at each border."""
    for side in (2, 3):  # F.pad refuses circular padding by more than the image's size
        indices = torch.arange(-margin, image.shape[side] + margin, device=image.device) % image.shape[side]
        image = image.index_select(side, indices)
    return image
