"""A group norm with a fast backward pass on CPUs. Works on tensors; knows nothing about networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GroupNorm(nn.GroupNorm):
    """torch's group norm, computed in the contiguous layout on a CPU.

    In channels-last layout, which convolutions need to be fast, torch's backward pass is up to 30× slower. Converting
    the layout for the norm alone saves a fifth of a training step.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (b, channels, …); the result has the layout of x."""
        if x.device.type != "cpu" or x.is_contiguous():
            return super().forward(x)
        return super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last)
