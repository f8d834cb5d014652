"""Random masks of known cells, for transformers that learn to fill holes. Knows grids of cells alone."""

from __future__ import annotations

import math
import random

import torch
from torch import Tensor


def random_known_mask(rng: random.Random, side: int) -> Tensor:
    """A random mask (side, side), true where a cell is known: cases met when pictures are completed or extended.

    No cell is known in about a third of the cases; else known are strips at one to four sides, a box or all but a
    box, or all but brush strokes. At least one cell is unknown.
    """
    known = torch.zeros(side, side, dtype=torch.bool)
    kind = rng.random()
    if kind < 0.35:
        return known
    if kind < 0.75:  # strips at one to four sides: halves, borders, frames
        known |= _strips(rng, side)
    elif kind < 0.9:
        known[_span(rng, side), _span(rng, side)] = True
        known ^= rng.random() < 0.6  # more often a hole than an island
    else:
        known = ~_strokes(rng, side)
    return known if bool((~known).any()) else torch.zeros_like(known)


def _strips(rng: random.Random, side: int) -> Tensor:
    """A mask that is true in strips along one to four sides."""
    known = torch.zeros(side, side, dtype=torch.bool)
    for border in rng.sample(range(4), rng.choice((1, 1, 1, 2, 2, 3, 4))):
        depth = rng.randint(1, max(1, side * 2 // 3))
        near, far, full = slice(depth), slice(side - depth, None), slice(None)
        rows, columns = ((near, full), (far, full), (full, near), (full, far))[border]
        known[rows, columns] = True
    return known


def _span(rng: random.Random, side: int) -> slice:
    """A random range of up to three quarters of the rows or columns."""
    length = rng.randint(min(2, side), max(2, side * 3 // 4))
    start = rng.randint(0, max(0, side - length))
    return slice(start, start + length)


def _strokes(rng: random.Random, side: int) -> Tensor:
    """A mask that is true where a brush two cells wide went."""
    painted = torch.zeros(side, side, dtype=torch.bool)
    for _ in range(rng.randint(1, 3)):
        x, y, angle = rng.uniform(0, side), rng.uniform(0, side), rng.uniform(0, 2 * math.pi)
        for _ in range(rng.randint(side // 2, 2 * side)):
            top, left = max(0, min(side - 1, int(y))), max(0, min(side - 1, int(x)))
            painted[top : top + 2, left : left + 2] = True
            angle += rng.gauss(0, 0.5)
            x, y = x + math.cos(angle), y + math.sin(angle)
    return painted
