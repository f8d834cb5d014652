"""Colour statistics and sharpness of images: matching colours in LAB, unsharp masking.

Works on tensors in [-1, 1]; knows nothing about files or animations.
"""

from __future__ import annotations

import torch
from torch import Tensor


def lab_statistics(image: Tensor) -> Tensor:
    """Return the mean and the standard deviation (2, 3) of the pixels of an image (1, 3, H, W) in LAB."""
    lab = _rgb_to_lab(image).flatten(2)[0]
    return torch.stack([lab.mean(1), lab.std(1)])


def match_colours(image: Tensor, colours: Tensor) -> Tensor:
    """Transfer colours to an image (1, 3, H, W): give it the mean and standard deviation (2, 3) of another in LAB.

    Reinhard et al. 2001, Color transfer between images, eq. 10 and 11; Deforum calls this LAB.
    """
    from kornia.color import lab_to_rgb

    own = lab_statistics(image)
    # an image of nearly one colour has no contrast that could be stretched
    gain = (colours[1] / own[1].clamp(min=1e-3)).clamp(max=4).view(1, 3, 1, 1)
    lab = (_rgb_to_lab(image) - own[0].view(1, 3, 1, 1)) * gain + colours[0].view(1, 3, 1, 1)
    out: Tensor = lab_to_rgb(lab).clamp(0, 1).mul(2).sub(1)
    return out


def sharpen(image: Tensor, amount: float, closed: bool = False) -> Tensor:
    """Apply unsharp masking with a sigma of one pixel to images (b, 3, H, W); an amount of 0 changes nothing.

    closed: whether opposite edges join, as in a seamless tile.
    """
    from kornia.filters import gaussian_blur2d

    blurred = gaussian_blur2d(image, 5, (1.0, 1.0), "circular" if closed else "reflect")
    out: Tensor = (image + amount * (image - blurred)).clamp(-1, 1)
    return out


def _rgb_to_lab(image: Tensor) -> Tensor:
    """Convert images (b, 3, H, W) in [-1, 1] to LAB."""
    from kornia.color import rgb_to_lab

    out: Tensor = rgb_to_lab(image.add(1).div(2).clamp(0, 1))
    return out
