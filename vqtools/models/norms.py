"""A group norm that is as quick in training as it can be. Knows tensors only."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GroupNorm(nn.GroupNorm):
    """torch's, which on a CPU goes backward through channels-last maps up to thirty times slower than through others.

    Convolutions want channels last, so the map is turned for the norm alone: a fifth of a training step saved.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or x.is_contiguous():
            return super().forward(x)
        return super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last)
