"""`vqtools queue`: what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cli.conftest import run_command


def test_the_command_prints_what_was_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "tonight"
    folder.mkdir()
    settings = {"prompt": "a", "seed": 1, "size": "64x64", "cutouts": 1, "augment": "", "transformer": "none"}
    (folder / "a.json").write_text(json.dumps(settings))
    assert run_command("queue", str(folder), "--set", "iterations=1", "--set", "renderer=vqgan") == 0
    out = capsys.readouterr().out
    assert "a-1.png  64×64  1 of 1" in out and "1 made" in out
    assert run_command("queue", str(folder), "--report") == 0
    assert run_command("queue", str(folder / "absent")) == 2
    assert run_command("queue", str(folder), "--out", str(folder)) == 2
    assert run_command("queue", str(folder), "--set", "iterations") == 2
    assert os.listdir(folder / "done")
