"""TODO: what this module is.

Split from vqtools.drawing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vqtools.sampling.window import Cell

UNDRAWN_COLOUR = (127, 127, 127)


@dataclass(frozen=True)
class GivenPicture:
    """A given picture as the sampler takes it: its codes (1, h, w), which of them stay, how it was turned."""

    codes: Tensor
    known: Tensor  # (h, w)
    flipped: tuple[bool, bool]  # upside down, left to right


def half_mask(keep: str, height: int, width: int) -> Tensor:
    """The cells (h, w) of one half of a grid."""
    known = torch.zeros(height, width, dtype=torch.bool)
    rows = {"upper": slice(height // 2), "lower": slice(height // 2, None)}.get(keep, slice(None))
    columns = {"left": slice(width // 2), "right": slice(width // 2, None)}.get(keep, slice(None))
    known[rows, columns] = True
    return known


def cells_to_mask(cells: set[Cell], height: int, width: int) -> Tensor:
    """Cells -> (h, w), true for each of them."""
    known = torch.zeros(height, width, dtype=torch.bool)
    if cells:
        rows, columns = torch.tensor(sorted(cells)).T
        known[rows, columns] = True
    return known
