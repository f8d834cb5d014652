"""How a gradient becomes a step: the optimisers that artists choose from.

Knows one tensor and its gradient. A state is complete and on the CPU, so that a run can stop and go on.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vqtools.painting.settings import Optimiser


def create_optimiser(name: Optimiser, latents: Tensor) -> torch.optim.Optimizer:
    """An optimiser of one tensor; its rate is set at each step."""
    kind: Any = getattr(torch.optim, name)
    made: torch.optim.Optimizer = kind([latents], lr=0.1, foreach=False)
    return made


def optimiser_state(optimiser: torch.optim.Optimizer, latents: Tensor) -> dict[str, Any]:
    """What it remembers, as copies on the CPU."""
    return {
        name: value.detach().to("cpu", copy=True).contiguous() if isinstance(value, Tensor) else value
        for name, value in optimiser.state[latents].items()
    }


@torch.no_grad()
def reset_cells(optimiser: torch.optim.Optimizer, latents: Tensor, cells: Tensor) -> None:
    """Lose the memory of some cells (h, w), where something new begins."""
    for value in optimiser.state[latents].values():
        if isinstance(value, Tensor) and value.shape == latents.shape:
            value.masked_fill_(cells, 0)


def load_optimiser_state(optimiser: torch.optim.Optimizer, latents: Tensor, state: dict[str, Any]) -> None:
    """Go on from what :func:`optimiser_state` gave; an empty state is a new beginning."""
    if not state:
        return
    optimiser.state[latents] = {
        name: torch.empty_like(latents).copy_(value)
        if isinstance(value, Tensor) and value.dim()
        else value.clone()
        if isinstance(value, Tensor)
        else value
        for name, value in state.items()
    }
