"""How a gradient becomes a step: the optimisers that artists choose from.

Knows one tensor and its gradient. A state is complete and on the CPU, so that a run can stop and go on.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vqtools.painting.settings import Optimiser


def make(name: Optimiser, latents: Tensor) -> torch.optim.Optimizer:
    """An optimiser of one tensor; its rate is set at each step."""
    kind: Any = getattr(torch.optim, name)
    made: torch.optim.Optimizer = kind([latents], lr=0.1, foreach=False)
    return made


def state_of(optimiser: torch.optim.Optimizer, latents: Tensor) -> dict[str, Any]:
    """What it remembers, as copies on the CPU."""
    return {
        name: value.detach().to("cpu", copy=True).contiguous() if isinstance(value, Tensor) else value
        for name, value in optimiser.state[latents].items()
    }


def restore(optimiser: torch.optim.Optimizer, latents: Tensor, state: dict[str, Any]) -> None:
    """Go on from what :func:`state_of` gave."""
    optimiser.state[latents] = {
        name: torch.empty_like(latents).copy_(value)
        if isinstance(value, Tensor) and value.dim()
        else value.clone()
        if isinstance(value, Tensor)
        else value
        for name, value in state.items()
    }
