"""Generated initial images: coloured noise and colour gradients.

Knows sizes and random generators; nothing about latents.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def random_noise_image(generator: torch.Generator, width: int, height: int) -> Tensor:
    """An image (1, 3, H, W) in [-1, 1] of soft coloured noise with equal amplitude at every scale."""
    picture = torch.zeros(1, 3, height, width)
    side = 2
    while side <= max(width, height):
        grid = (max(2, round(side * height / max(width, height))), max(2, round(side * width / max(width, height))))
        coarse = 2 * torch.rand(1, 3, *grid, generator=generator) - 1
        picture += F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)
        side *= 2
    return (picture / picture.std().clamp(min=1e-6) * 0.5).clamp(-1, 1)


def random_gradient_image(generator: torch.Generator, width: int, height: int) -> Tensor:
    """An image (1, 3, H, W) in [-1, 1] of a linear gradient between two random colours in a random direction."""
    numbers = torch.rand(7, generator=generator)
    first, last, angle = numbers[:3].view(3, 1, 1), numbers[3:6].view(3, 1, 1), float(numbers[6]) * 2 * torch.pi
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    direction = torch.tensor(angle)
    along = x * direction.cos() + y * direction.sin()
    fraction = (along - along.min()) / (along.max() - along.min()).clamp(min=1e-6)
    return (first + (last - first) * fraction).mul(2).sub(1).unsqueeze(0)
