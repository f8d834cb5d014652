"""The optimisers of the latents, and their states.

Knows one tensor and its gradient. A state is complete and on the CPU, so that a run can be stopped and resumed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vqtools.painting.settings import Optimiser


def create_optimiser(name: Optimiser, latents: Tensor) -> torch.optim.Optimizer:
    """A torch.optim optimiser of one tensor; the caller sets its learning rate at each step."""
    optimiser_class: Any = getattr(torch.optim, name)
    optimiser: torch.optim.Optimizer = optimiser_class([latents], lr=0.1, foreach=False)
    return optimiser


def optimiser_state(optimiser: torch.optim.Optimizer, latents: Tensor) -> dict[str, Any]:
    """The optimiser's state for the latents, as copies on the CPU; empty before the first step."""
    return {
        name: value.detach().to("cpu", copy=True).contiguous() if isinstance(value, Tensor) else value
        for name, value in optimiser.state[latents].items()
    }


@torch.no_grad()
def reset_cells(optimiser: torch.optim.Optimizer, latents: Tensor, cells: Tensor) -> None:
    """Set the state of some cells, a mask (h, w) of bool, to zero, because their content is replaced."""
    for value in optimiser.state[latents].values():
        if isinstance(value, Tensor) and value.shape == latents.shape:
            value.masked_fill_(cells, 0)


def load_optimiser_state(optimiser: torch.optim.Optimizer, latents: Tensor, state: dict[str, Any]) -> None:
    """Load a state from :func:`optimiser_state`; an empty one leaves the optimiser as it is."""
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
