"""`vqtools presets` prints the speed of the machine and every preset."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import run_command
from vqtools.painting.settings import PRESETS
from vqtools.pipelines import presets
from vqtools.pipelines.presets import StepTimeModel


def test_the_command_prints_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path))
    monkeypatch.setattr(presets, "run_benchmark", lambda _settings, _machine: StepTimeModel(0.0, 1e-6, 0.001, 9, "PC"))
    assert run_command("presets") == 0
    out = capsys.readouterr().out
    assert "steps/s at 256x256" in out and all(f"{name}: " in out for name in PRESETS)
    assert str(tmp_path / "presets.json") in out
