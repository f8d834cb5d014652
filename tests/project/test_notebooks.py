"""The committed notebooks run from top to bottom, twice, and contain no outputs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
each = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@each
def test_a_notebook_runs_twice(notebook: Path, tmp_path: Path) -> None:
    for folder in (tmp_path / "first", tmp_path / "first"):  # the second time beside the files that the first run wrote
        shutil.copytree(notebook.parent, folder, dirs_exist_ok=True)
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--nbval-lax", "--nbval-current-env"]
        command += ["--nbval-cell-timeout=600", "--rootdir", str(folder), "-c", os.devnull, notebook.name]
        result = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "VQTOOLS_QUICK": "1", "VQTOOLS_HOME": str(tmp_path / "home")},
            capture_output=True,
            text=True,
            check=False,
            timeout=1300,
        )
        assert result.returncode == 0, result.stdout + result.stderr


@each
def test_a_notebook_has_no_outputs_and_short_cells(notebook: Path) -> None:
    page: dict[str, Any] = json.loads(notebook.read_text("utf-8"))
    assert page["metadata"]["kernelspec"]["name"] == "python3"
    assert "widgets" not in page["metadata"]
    for cell in page["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None, cell["id"]
            assert len(cell["source"]) <= 15, f"{cell['id']}: a cell calls the library in a few lines"
    assert sum("Settings(" in "".join(cell["source"]) for cell in page["cells"] if cell["cell_type"] == "code") == 1
