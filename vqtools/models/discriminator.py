"""PatchGAN: a discriminator with one logit per patch of an image. Works on tensors; knows nothing about losses.

Isola et al. 2017, arXiv 1611.07004, section 3.2.2.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from vqtools.models.norms import GroupNorm


class PatchDiscriminator(nn.Module):
    """A convolutional discriminator whose logits have a receptive field of 70x70 pixels with 3 layers.

    norm: "batch" as in the reference, or "group", which small batches need.
    """

    def __init__(self, channels: int = 64, layers: int = 3, norm: Literal["batch", "group"] = "batch") -> None:
        super().__init__()
        main: list[nn.Module] = [nn.Conv2d(3, channels, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        width = channels
        for i in range(1, layers + 1):
            inp, width = width, channels * min(2**i, 8)
            main += [
                nn.Conv2d(inp, width, 4, stride=2 if i < layers else 1, padding=1, bias=norm == "group"),
                nn.BatchNorm2d(width) if norm == "batch" else GroupNorm(8, width),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        main.append(nn.Conv2d(width, 1, 4, padding=1))
        self.main = nn.Sequential(*main)
        for module in self.main:
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)
                nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Map images (b, 3, H, W) in [-1, 1] to logits (b, 1, h, w), higher for real images."""
        return self.main(image)
