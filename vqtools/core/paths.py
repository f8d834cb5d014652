"""Folders and file names: the user's home folder, the notebooks, the name of an output file.

Knows paths; nothing about what the files contain. Importing it loads neither torch nor pydantic.
"""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

from vqtools.core.errors import UserError

_MAX_STEM_LENGTH = 60  # characters
_MAX_STEM_BYTES = 160


def home_folder() -> Path:
    """Return the folder of downloaded and trained models: VQTOOLS_HOME, else the user's cache folder."""
    if chosen := os.environ.get("VQTOOLS_HOME"):
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("vqtools", appauthor=False))


def notebooks_folder() -> Path:
    """Return the folder of the notebooks: inside the installed package, or beside it in a checkout.

    Raises UserError if there is neither.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "notebooks", package.parent / "notebooks"):
        if folder.is_dir():
            return folder
    raise UserError("the notebooks are missing from this installation; install vqtools again")


def copy_notebooks(folder: Path, select: Callable[[Path], bool] | None = None) -> tuple[int, int]:
    """Copy the notebooks and the files beside them to a folder, except files that exist there.

    select: copies only the files for which it returns True; hidden files are never copied. Returns the numbers of files
    copied and kept.
    """
    copied = kept = 0
    origin = notebooks_folder()
    for source in sorted(origin.rglob("*")):
        relative = source.relative_to(origin)
        if not source.is_file() or any(part.startswith((".", "__")) for part in relative.parts):
            continue
        if select is not None and not select(source):
            continue
        target = folder / relative
        if target.exists():
            kept += 1
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        copied += 1
    return copied, kept


def file_stem(prompt: str, seed: int) -> str:
    """Return a file name without suffix that is valid on every system: ("A red apple!", 42) -> ``a-red-apple-42``.

    At most 60 characters and 160 bytes of the prompt are kept.
    """
    plain = unicodedata.normalize("NFC", prompt.lower())
    words = "".join(letter if letter.isalnum() else " " for letter in plain).split()
    stem = "-".join(words)[:_MAX_STEM_LENGTH]
    stem = stem.encode("utf-8")[:_MAX_STEM_BYTES].decode("utf-8", "ignore").strip("-")
    # the number also avoids the names that Windows reserves (con, nul, com1 …)
    return f"{stem or 'picture'}-{seed}"
