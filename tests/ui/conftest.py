"""A job that counts and draws gradients, and one that breaks: what the runner needs and nothing more."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from PIL import Image


class CountingJob:
    def __init__(self, total: int = 20, *, breaks_at: int | None = None, held: bool = False) -> None:
        self.position, self.total = 0, total
        self.breaks_at = breaks_at
        self.gate = threading.Semaphore(0) if held else None  # held: a step is made for each release

    def step(self) -> dict[str, float]:
        if self.gate is not None:
            assert self.gate.acquire(timeout=20)
        if self.position == self.breaks_at:
            raise RuntimeError("the <b>job</b> broke")
        self.position += 1
        return {"loss": 1 / self.position}

    def preview(self) -> Image.Image:
        return Image.linear_gradient("L").point(lambda value: (value + 10 * self.position) % 256).convert("RGB")

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]


@pytest.fixture
def counting_job() -> type[CountingJob]:
    return CountingJob
