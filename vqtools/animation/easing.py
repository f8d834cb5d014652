"""The one easing curve of fades: Hermite's smoothstep. Knows numbers and tensors of them."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

NumberT = TypeVar("NumberT", float, Tensor)


def smoothstep(x: NumberT) -> NumberT:
    """3 x^2 - 2 x^3 for x in [0, 1]: from 0 to 1 with zero slope at both ends."""
    return x * x * (3 - 2 * x)
