"""TODO: what this module is.

Split from vqtools.training.codes.
"""

from __future__ import annotations

import math
import random

import torch
from torch import Tensor


def random_known_mask(rng: random.Random, side: int) -> Tensor:
    """Which cells (side, side) of a grid are known: what a person may leave to be drawn, and what growing meets.

    Nothing in a third of the cases; else a side or several, in any direction; a box, known or missing; a frame;
    strokes of a brush.
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
    known = torch.zeros(side, side, dtype=torch.bool)
    for which in rng.sample(range(4), rng.choice((1, 1, 1, 2, 2, 3, 4))):
        deep = rng.randint(1, max(1, side * 2 // 3))
        known[[slice(deep), slice(side - deep, None), slice(None), slice(None)][which],
              [slice(None), slice(None), slice(deep), slice(side - deep, None)][which]] = True  # fmt: skip
    return known


def _span(rng: random.Random, side: int) -> slice:
    length = rng.randint(min(2, side), max(2, side * 3 // 4))
    start = rng.randint(0, max(0, side - length))
    return slice(start, start + length)


def _strokes(rng: random.Random, side: int) -> Tensor:
    """Cells (side, side) that a brush of two cells went over."""
    drawn = torch.zeros(side, side, dtype=torch.bool)
    for _ in range(rng.randint(1, 3)):
        x, y, way = rng.uniform(0, side), rng.uniform(0, side), rng.uniform(0, 2 * math.pi)
        for _ in range(rng.randint(side // 2, 2 * side)):
            top, left = max(0, min(side - 1, int(y))), max(0, min(side - 1, int(x)))
            drawn[top : top + 2, left : left + 2] = True
            way += rng.gauss(0, 0.5)
            x, y = x + math.cos(way), y + math.sin(way)
    return drawn
