"""Every notebook as it is committed: it runs from top to bottom, twice, and is fit to be committed."""

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
def test_runs_from_top_to_bottom_and_again(notebook: Path, tmp_path: Path) -> None:
    for folder in (tmp_path / "first", tmp_path / "first"):  # again among the pictures of the first time
        shutil.copytree(notebook.parent, folder, dirs_exist_ok=True)
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--nbval-lax", "--nbval-current-env"]
        command += ["--nbval-cell-timeout=600", "--rootdir", str(folder), "-c", os.devnull, notebook.name]
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "VQTOOLS_QUICK": "1", "VQTOOLS_HOME": str(tmp_path / "home")},
            capture_output=True,
            text=True,
            timeout=1300,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@each
def test_is_clean(notebook: Path) -> None:
    page: dict[str, Any] = json.loads(notebook.read_text("utf-8"))
    assert page["metadata"]["kernelspec"]["name"] == "python3"
    assert "widgets" not in page["metadata"]
    for cell in page["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None, cell["id"]
            assert len(cell["source"]) <= 15, f"{cell['id']}: a cell calls the library in a few lines"
    assert sum("Settings(" in "".join(cell["source"]) for cell in page["cells"] if cell["cell_type"] == "code") == 1
