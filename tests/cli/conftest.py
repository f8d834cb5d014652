"""Running the command line in this process, and painting without networks."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from vqtools.cli.main import main
from vqtools.core.device import Machine
from vqtools.painting.settings import PaintSettings
from vqtools.pipelines import paint


def run_command(*arguments: str) -> int:
    """Run `vqtools` with arguments; returns the exit code."""
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert isinstance(exit_info.value.code, int)
    return exit_info.value.code


class Canvas:
    """A paint job without networks: every step writes its number and the seed into the picture."""

    def __init__(self, settings: PaintSettings, threads: int | None) -> None:
        self.settings = settings.model_copy(update={"seed": 7}) if settings.seed is None else settings
        self.machine = Machine(torch.device("cpu"), "fp32", threads or 1)
        self.position, self.total = 0, settings.iterations
        self.interrupt_at = -1
        self.notes: list[str] = []

    def step(self) -> dict[str, float]:
        if self.position == self.interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)
        self.position += 1
        return {"loss": 1 / self.position}

    def preview(self) -> Image.Image:
        return self.picture()

    def picture(self) -> Image.Image:
        return Image.new("RGB", self.settings.size, (self.position, self.settings.known_seed % 256, 0))

    def record(self) -> dict[str, Any]:
        return {
            "settings": self.settings.model_dump(mode="json"), "position": self.position, "total": self.total,
            "device": "cpu", "precision": "fp32", "threads": self.machine.threads,
            "models": {"vqgan": {"name": "starter", "sha256": "00"}},
        }  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


@pytest.fixture
def canvases(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Canvas]:
    """Paint without networks, in an empty folder; the list holds every job that was created."""
    canvases: list[Canvas] = []

    def create(settings: PaintSettings, *, threads: int | None = None, **_keywords: Any) -> Canvas:
        canvases.append(Canvas(settings, threads))
        return canvases[-1]

    monkeypatch.setattr(paint, "create_paint_job", create)
    monkeypatch.chdir(tmp_path)
    return canvases
