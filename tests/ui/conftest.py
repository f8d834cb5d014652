"""A job that counts and draws gradients, one that breaks, and small real networks to paint with."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vqtools.painting.painter import Painter
from vqtools.painting.session import PaintSession
from vqtools.painting.settings import PaintSettings


class CountingJob:
    steerable = supports_branching = False
    activity, revision = "", 0

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


def _tiny() -> Any:
    """The small real networks that the painting's own tests have."""
    path = Path(__file__).parents[1] / "painting" / "conftest.py"
    spec = importlib.util.spec_from_file_location("tiny_networks", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def make_easel() -> Callable[[PaintSettings], PaintSession]:
    """An easel with small real networks, for any settings whose sizes are multiples of 2."""
    tiny = _tiny()

    def make(settings: PaintSettings) -> PaintSession:
        return PaintSession(Painter(settings, tiny.tiny_vqgan(), [tiny.TinyCLIP()], machine=tiny.CPU))

    return make
