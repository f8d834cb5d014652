"""Where the notebooks lie, and what they need beside them.

Knows files; nothing about what the pages do.
"""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

from vqtools.core.errors import UserError


def notebooks_folder() -> Path:
    """Where the notebooks lie: inside the installed package, or beside it in a checkout."""
    here = Path(__file__).resolve().parents[1]
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


_MAX_STEM_LENGTH = 60


_MAX_STEM_BYTES = 160


def file_stem(prompt: str, seed: int) -> str:
    """A file name without ending that every system takes: ("A red apple!", 42) -> `a-red-apple-42`."""
    plain = unicodedata.normalize("NFC", prompt.lower())
    words = "".join(letter if letter.isalnum() else " " for letter in plain).split()
    stem = "-".join(words)[:_MAX_STEM_LENGTH]
    stem = stem.encode("utf-8")[:_MAX_STEM_BYTES].decode("utf-8", "ignore").strip("-")
    # with the number behind it no name is one of those that Windows keeps (con, nul, com1 …)
    return f"{stem or 'picture'}-{seed}"


def home_folder() -> Path:
    """Where models that a person makes or downloads live: VQTOOLS_HOME, else the user's cache folder."""
    if chosen := os.environ.get("VQTOOLS_HOME"):
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("vqtools", appauthor=False))
