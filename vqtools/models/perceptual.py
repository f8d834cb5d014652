"""A perceptual distance from the first layers of an ImageNet-trained EfficientNet-Lite0. Knows tensors only.

Stands where LPIPS-VGG (528 MB) can't be had: the layers up to 1/8 of the picture are 58,431 numbers.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor, nn


class PerceptualDistance(nn.Module):
    """Mean squared distance of features at 1/2, 1/4 and 1/8, unit-normalised over channels.

    Pictures (b, 3, H, W) in [-1, 1]; scalar at least 0. The normalisation is that of LPIPS (Zhang et al. 2018,
    arXiv 1801.03924, section 3), without its learned weights.
    """

    def __init__(self) -> None:
        super().__init__()
        features: Any = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(0, 1, 2))
        features.blocks = features.blocks[:3]  # nothing deeper than 1/8 is looked at
        self.features = features
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> PerceptualDistance:
        """Stays in eval: batch statistics of a training would change the measure."""
        return super().train(False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        with torch.autocast(a.device.type, enabled=False):  # depthwise convolutions in bf16 are slow on every CPU
            with torch.no_grad():
                target = self.features(b.float())
            pairs = zip(self.features(a.float()), target, strict=True)
            # eps inside the square root: where all features are zero the gradient would be NaN
            return torch.stack(
                [(normalise_channels(x) - normalise_channels(y)).square().sum(1).mean() for x, y in pairs]
            ).mean()


def normalise_channels(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True) + 1e-10).sqrt()
