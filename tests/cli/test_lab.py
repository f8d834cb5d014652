"""`vqtools lab` copies the notebooks and starts JupyterLab in their folder."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import run_command
from vqtools.core import paths


def test_notebooks_are_copied_and_never_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    (source / ".ipynb_checkpoints").mkdir(parents=True)
    (source / ".ipynb_checkpoints" / "a.ipynb").touch()
    (source / "a.ipynb").write_text("new")
    (source / "b.ipynb").write_text("new")
    monkeypatch.setattr(paths, "notebooks_folder", lambda: source)
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "a.ipynb").write_text("my own")
    assert paths.copy_notebooks(folder) == (1, 1)
    assert (folder / "a.ipynb").read_text() == "my own"
    assert sorted(path.name for path in folder.iterdir()) == ["a.ipynb", "b.ipynb"]


def test_lab_starts_jupyter_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    def record(command: list[str], cwd: Path) -> int:
        started.append((command[1:], cwd))
        return 0

    monkeypatch.setattr(subprocess, "call", record)
    monkeypatch.chdir(tmp_path)
    assert run_command("lab", "mine", "--no-browser", "--port", "8899") == 0
    assert run_command("lab", "--no-browser") == 0
    assert started == [
        (["-m", "jupyterlab", "--no-browser", "--port", "8899"], Path("mine")),
        (["-m", "jupyterlab", "--no-browser"], Path("vqtools-notebooks")),
    ]
    assert (tmp_path / "mine" / "04_paint.ipynb").is_file()
    (tmp_path / "file").touch()
    assert run_command("lab", "file") == 2
