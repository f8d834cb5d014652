"""TODO: what this module is.

Split from vqtools.animation.animator.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _rgb_to_lab(image: Tensor) -> Tensor:
    from kornia.color import rgb_to_lab

    out: Tensor = rgb_to_lab(image.add(1).div(2).clamp(0, 1))
    return out


def lab_statistics(image: Tensor) -> Tensor:
    """Mean and spread (2, 3) of a picture's pixels in LAB."""
    lab = _rgb_to_lab(image).flatten(2)[0]
    return torch.stack([lab.mean(1), lab.std(1)])


def match_colours(image: Tensor, colours: Tensor) -> Tensor:
    """A picture with the mean and spread (2, 3) in LAB of another: Reinhard et al. 2001, as Deforum's LAB."""
    from kornia.color import lab_to_rgb

    own = lab_statistics(image)
    # a plain picture has no spread that could be stretched
    gain = (colours[1] / own[1].clamp(min=1e-3)).clamp(max=4).view(1, 3, 1, 1)
    lab = (_rgb_to_lab(image) - own[0].view(1, 3, 1, 1)) * gain + colours[0].view(1, 3, 1, 1)
    out: Tensor = lab_to_rgb(lab).clamp(0, 1).mul(2).sub(1)
    return out


def sharpen(image: Tensor, amount: float, closed: bool = False) -> Tensor:
    """Unsharp masking with a radius of one pixel; 0 leaves the picture as it is. closed: its edges join."""
    from kornia.filters import gaussian_blur2d

    soft = gaussian_blur2d(image, 5, (1.0, 1.0), "circular" if closed else "reflect")
    out: Tensor = (image + amount * (image - soft)).clamp(-1, 1)
    return out
