"""Where the notebooks lie, and what they need beside them.

Knows files; nothing about what the pages do.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from vqtools.settings import UserError


def notebooks_folder() -> Path:
    """Where the notebooks lie: inside the installed package, or beside it in a checkout."""
    here = Path(__file__).resolve().parent
    for folder in (here / "notebooks", here.parent / "notebooks"):
        if folder.is_dir():
            return folder
    raise UserError("the notebooks are missing from this installation; install vqtools again")


def copy_notebooks(folder: Path, wanted: Callable[[Path], bool] = lambda path: True) -> tuple[int, int]:
    """Copy what is not there yet of the notebooks and the files beside them; (copied, kept)."""
    copied = kept = 0
    origin = notebooks_folder()
    for source in sorted(origin.rglob("*")):
        inside = source.relative_to(origin)
        if not source.is_file() or any(part.startswith((".", "__")) for part in inside.parts) or not wanted(source):
            continue
        target = folder / inside
        if target.exists():
            kept += 1
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        copied += 1
    return copied, kept
