"""A perceptual distance from the first layers of an EfficientNet-Lite0 trained on ImageNet.

A small substitute for LPIPS with VGG16 (528 MB): the layers down to 1/8 of the resolution have 58,431 parameters. Works
on tensors; knows nothing about files.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor, nn


class PerceptualDistance(nn.Module):
    """Mean squared distance of features at 1/2, 1/4 and 1/8 of the resolution, normalised over channels.

    This is LPIPS (Zhang et al. 2018, arXiv 1801.03924, eq. 1) without its learned weights. The module always stays in
    eval mode, because the batch statistics of training would change the distance.
    """

    def __init__(self) -> None:
        super().__init__()
        features: Any = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(0, 1, 2))
        features.blocks = features.blocks[:3]  # deeper layers are not used
        self.features = features
        self.requires_grad_(False)
        self.eval()

    def train(self, _mode: bool = True) -> PerceptualDistance:
        """Stay in eval mode."""
        return super().train(False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the mean distance, a scalar >= 0, of images (b, 3, H, W) in [-1, 1]. Only ``a`` gets a gradient."""
        with torch.autocast(a.device.type, enabled=False):  # depthwise convolutions in bf16 are slow on every CPU
            with torch.no_grad():
                target = self.features(b.float())
            pairs = zip(self.features(a.float()), target, strict=True)
            distances = [(normalise_channels(x) - normalise_channels(y)).square().sum(1).mean() for x, y in pairs]
            return torch.stack(distances).mean()


def normalise_channels(features: Tensor) -> Tensor:
    """Normalise features (b, c, h, w) to unit length over the channels."""
    # eps inside the square root, because the gradient would be NaN where all features are zero
    return features / (features.square().sum(1, keepdim=True) + 1e-10).sqrt()
