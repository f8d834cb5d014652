"""The spherical distance loss of prompts, and a clamp whose gradient is not its derivative.

Crowson et al. 2022, arXiv 2204.08583. Knows embeddings; nothing about where they come from.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _ClampWithGrad(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        clamped = x.clamp(low, high)
        ctx.save_for_backward(x - clamped)
        return clamped

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (excess,), (gradient,) = ctx.saved_tensors, gradients
        return gradient * (gradient * excess >= 0), None, None


def clamp_with_grad(x: Tensor, low: float, high: float) -> Tensor:
    """Clamp to [low, high]; the gradient passes unchanged wherever a descent step leads back into the range.

    The mask depends on the gradient's sign, so it must see the whole gradient, not that of some of the cutouts.
    """
    clamped: Tensor = _ClampWithGrad.apply(x, low, high)
    return clamped


def spherical_distance(a: Tensor, b: Tensor) -> Tensor:
    """2·arcsin(‖a−b‖/2)² of unit vectors (..., d): half the squared angle between them, 0 to π²/2."""
    # just below 1: the slope of arcsin at 1, for opposite vectors, is infinite
    half_chord: Tensor = torch.linalg.vector_norm(a - b, dim=-1).div(2).clamp(max=1 - 1e-7)
    return half_chord.arcsin().square().mul(2)


def prompt_losses(images: Tensor, texts: Tensor, weights: Tensor, stops: Tensor) -> Tensor:
    """Loss (p,) of each of p prompts over n images: the mean of |w|·sign(w)·d, d the spherical distance.

    images (n, d) and texts (p, d) are unit embeddings; weights and stops are (p,). The gradient is that of
    |w|·max(sign(w)·d, stop): images whose distance d is below the stop of a prompt with positive weight get none from
    it, and images whose −d is below the stop of a prompt with negative weight get none from that.
    """
    signed = weights.sign() * spherical_distance(images.unsqueeze(1), texts)  # (n, p)
    return weights.abs() * torch.where(signed > stops, signed, signed.detach()).mean(0)
