"""Moments of a run to go back to: whole states, squeezed without loss, no more of them than a budget holds.

They form a tree, for a run that went back and took another way has two. Knows states as nested dicts of tensors and
plain values; nothing about what they mean.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

DEFAULT_BUDGET = 256 * 2**20


@dataclass(eq=False)
class Snapshot:
    """A state at a position. ``line`` are the journal's entries that led there, by number."""

    position: int
    line: tuple[int, ...]
    settings: Any
    state: Any = field(repr=False)
    size: int  # bytes that it takes beyond those it shares with the one before
    parent: Snapshot | None = field(repr=False)


@dataclass(frozen=True)
class _CompressedTensor:
    data: bytes = field(repr=False)
    dtype: torch.dtype
    shape: tuple[int, ...]


class SnapshotTree:
    """Moments, and the one that the run stands on or has come from (``now``)."""

    def __init__(self, budget: int = DEFAULT_BUDGET) -> None:
        self.budget = budget
        self.moments: list[Snapshot] = []
        self.now: Snapshot | None = None

    def add(self, position: int, line: tuple[int, ...], settings: Any, state: Any) -> Snapshot:
        """Remember a state after ``now``, and stand on it."""
        before = self.now.state if self.now else None
        squeezed, size = _compress(state, before)
        self.now = Snapshot(position, line, settings, squeezed, size, self.now)
        self.moments.append(self.now)
        self._thin()
        return self.now

    def go(self, moment: Snapshot) -> Any:
        """Stand on a moment; its state."""
        self.now = moment
        return self.read(moment)

    def read(self, moment: Snapshot) -> Any:
        """The state of a moment, without standing on it."""
        return _decompress(moment.state)

    def path(self) -> list[Snapshot]:
        """From the first moment to ``now``, along the way that the run took."""
        way, at = [], self.now
        while at is not None:
            way.append(at)
            at = at.parent
        return way[::-1]

    def _thin(self) -> None:
        """Drop where moments stand closest, never the first or the one that the run stands on."""
        while sum(moment.size for moment in self.moments) > self.budget:
            least = min(self._removable(), key=lambda pair: pair[1], default=None)
            if least is None:
                return
            moment = least[0]
            self.moments.remove(moment)
            for child in self.moments:
                if child.parent is moment:
                    child.parent = moment.parent
                    child.size = max(child.size, moment.size)  # what it shared is now its own

    def _removable(self) -> Iterator[tuple[Snapshot, int]]:
        """(moment, how far the next ones would be from the one before it)."""
        for moment in self.moments:
            if moment.parent is not None and moment is not self.now:
                after = [child.position for child in self.moments if child.parent is moment]
                yield moment, max(after, default=moment.position) - moment.parent.position


def _compress(value: Any, before: Any) -> tuple[Any, int]:
    """A state with its tensors squeezed, and the bytes that took; what has not changed is shared with ``before``."""
    if isinstance(value, Tensor):
        # bytes of equal rank side by side: exponents resemble each other, and only they can be squeezed
        raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        width = value.element_size()
        data = zlib.compress(np.ascontiguousarray(raw.reshape(-1, width).T).tobytes(), 1)
        if isinstance(before, _CompressedTensor) and before.data == data and before.shape == tuple(value.shape):
            return before, 0
        return _CompressedTensor(data, value.dtype, tuple(value.shape)), len(data)
    if isinstance(value, dict):
        known = before if isinstance(before, dict) else {}
        pairs = {name: _compress(one, known.get(name)) for name, one in value.items()}
        return {name: one for name, (one, _) in pairs.items()}, sum(size for _, size in pairs.values())
    return value, len(value) if isinstance(value, str) and value != before else 0


def _decompress(value: Any) -> Any:
    if isinstance(value, _CompressedTensor):
        if not value.data or 0 in value.shape:
            return torch.empty(value.shape, dtype=value.dtype)
        width = torch.empty((), dtype=value.dtype).element_size()
        planes = np.frombuffer(zlib.decompress(value.data), dtype=np.uint8).reshape(width, -1)
        flat = torch.from_numpy(np.array(planes.T, order="C").reshape(-1))
        return flat.view(value.dtype).reshape(value.shape)
    if isinstance(value, dict):
        return {name: _decompress(one) for name, one in value.items()}
    return value
