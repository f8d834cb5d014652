"""Snapshots of a run for undo and branches: whole states, compressed without loss, within a budget of bytes.

They form a tree, since a run that went back and continued differently has two branches. Knows states as nested dicts of
tensors and plain values; nothing about their meaning.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

DEFAULT_BUDGET = 256 * 2**20  # bytes
_SNAPSHOTS_PER_RUN = 50  # of a run without edits
_SNAPSHOT_TIME_DIVISOR = 20  # snapshots may take 1/20 of the time


@dataclass(eq=False)
class Snapshot:
    """A state at a position. ``active_entries``: numbers of the edit log's entries that led there."""

    position: int
    active_entries: tuple[int, ...]
    settings: Any
    state: Any = field(repr=False)
    size: int  # bytes beyond those shared with the parent
    parent: Snapshot | None = field(repr=False)


@dataclass(frozen=True)
class _CompressedTensor:
    data: bytes = field(repr=False)
    dtype: torch.dtype
    shape: tuple[int, ...]


class SnapshotTree:
    """Snapshots, and the one that the run is at or has continued from (``current``). budget: in bytes."""

    def __init__(self, budget: int = DEFAULT_BUDGET) -> None:
        self.budget = budget
        self.snapshots: list[Snapshot] = []
        self.current: Snapshot | None = None
        self._seconds = self._taken_at = 0.0

    def is_due(self, position: int, total: int) -> bool:
        """Whether a run of ``total`` steps should take a snapshot now: after 1/50 of it, if there is time for it."""
        current = self.current
        due = current is None or position - current.position >= max(1, total // _SNAPSHOTS_PER_RUN)
        return due and time.monotonic() - self._taken_at >= _SNAPSHOT_TIME_DIVISOR * self._seconds

    def take(self, position: int, active_entries: tuple[int, ...], make: Callable[[], tuple[Any, Any]]) -> Snapshot:
        """The current snapshot if it is of this position and these entries, else a new one.

        make: returns settings and state; it is called only for a new snapshot, and its time counts for :meth:`is_due`.
        """
        current = self.current
        if current is not None and (current.position, current.active_entries) == (position, active_entries):
            return current
        started = time.monotonic()
        snapshot = self.add(position, active_entries, *make())
        self._taken_at = time.monotonic()
        self._seconds = self._taken_at - started
        return snapshot

    def add(self, position: int, active_entries: tuple[int, ...], settings: Any, state: Any) -> Snapshot:
        """Add a state as a child of ``current`` and make it current."""
        parent_state = self.current.state if self.current else None
        compressed, size = _compress(state, parent_state)
        self.current = Snapshot(position, active_entries, settings, compressed, size, self.current)
        self.snapshots.append(self.current)
        self._thin()
        return self.current

    def restore(self, snapshot: Snapshot) -> Any:
        """Make a snapshot current and return its state."""
        self.current = snapshot
        return self.read(snapshot)

    def read(self, snapshot: Snapshot) -> Any:
        """The state of a snapshot; ``current`` stays."""
        return _decompress(snapshot.state)

    def path(self, until: int | None = None) -> list[Snapshot]:
        """The snapshots from the first one to ``current``, each the parent of the next; up to a position if given."""
        path, snapshot = [], self.current
        while snapshot is not None:
            if until is None or snapshot.position <= until:
                path.append(snapshot)
            snapshot = snapshot.parent
        return path[::-1]

    def _thin(self) -> None:
        """Remove snapshots where they are densest until the budget holds, but neither the first nor the current one."""
        while sum(snapshot.size for snapshot in self.snapshots) > self.budget:
            densest = min(self._removable(), key=lambda pair: pair[1], default=None)
            if densest is None:
                return
            removed = densest[0]
            self.snapshots.remove(removed)
            for child in self.snapshots:
                if child.parent is removed:
                    child.parent = removed.parent
                    child.size = max(child.size, removed.size)  # it now owns what it shared

    def _removable(self) -> Iterator[tuple[Snapshot, int]]:
        """Snapshots that may be removed, each with the gap in steps that its removal would leave."""
        for snapshot in self.snapshots:
            if snapshot.parent is not None and snapshot is not self.current:
                later = [child.position for child in self.snapshots if child.parent is snapshot]
                yield snapshot, max(later, default=snapshot.position) - snapshot.parent.position


def _compress(value: Any, before: Any) -> tuple[Any, int]:
    """A state with compressed tensors and their size in bytes; what equals ``before``, the parent's, is shared."""
    if isinstance(value, Tensor):
        # bytes of equal rank side by side: exponents resemble each other, mantissas hardly compress
        raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        width = value.element_size()
        data = zlib.compress(np.ascontiguousarray(raw.reshape(-1, width).T).tobytes(), 1)
        if isinstance(before, _CompressedTensor) and before.data == data and before.shape == tuple(value.shape):
            return before, 0
        return _CompressedTensor(data, value.dtype, tuple(value.shape)), len(data)
    if isinstance(value, dict):
        known = before if isinstance(before, dict) else {}
        pairs = {name: _compress(item, known.get(name)) for name, item in value.items()}
        return {name: item for name, (item, _) in pairs.items()}, sum(size for _, size in pairs.values())
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
        return {name: _decompress(item) for name, item in value.items()}
    return value
