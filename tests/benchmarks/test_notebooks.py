"""Processor time of each notebook with VQTOOLS_QUICK=1 on one thread, kernel start and imports included."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.benchmark
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_takes_at_most_two_minutes(notebook: Path, tmp_path: Path) -> None:
    shutil.copytree(notebook.parent, tmp_path / "notebooks")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--nbval-lax", "--nbval-current-env"]
    command += ["--nbval-cell-timeout=600", "--rootdir", ".", "-c", os.devnull, notebook.name]
    variables = {"VQTOOLS_QUICK": "1", "VQTOOLS_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    before, started = os.times(), time.perf_counter()
    result = subprocess.run(
        command,
        cwd=tmp_path / "notebooks",
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    after, wall = os.times(), time.perf_counter() - started
    assert result.returncode == 0, result.stdout
    processor_seconds = after.children_user + after.children_system - before.children_user - before.children_system
    print(f"{notebook.name}: {wall:.0f} s, {processor_seconds:.0f} s of processor time")
    assert processor_seconds < 120
