"""The picture that the next animation starts from, handed from notebook 04 to 05 by a small file.

Knows a folder, one file and settings; nothing about panels.
"""

from __future__ import annotations

import json
from pathlib import Path

from vqtools.animation.settings import AnimateSettings
from vqtools.core.errors import UserError
from vqtools.core.files import write_text
from vqtools.media.png_record import read_record

FILE_NAME = "begin-with.json"


def save_start_picture(folder: Path, picture: Path) -> Path:
    """Note in the animations' folder that the next one starts with a picture; returns the note's path."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / FILE_NAME, json.dumps({"picture": str(picture.absolute())}))
    return folder / FILE_NAME


def load_start_picture(folder: Path) -> Path | None:
    """The picture that was handed over, or None if there is none or it no longer exists."""
    try:
        note = json.loads((folder / FILE_NAME).read_text("utf-8"))
        picture = Path(note["picture"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return picture if picture.is_file() else None


def clear_start_picture(folder: Path) -> None:
    """Delete the note, once the picture was used."""
    (folder / FILE_NAME).unlink(missing_ok=True)


def settings_from_picture(picture: Path, settings: AnimateSettings) -> AnimateSettings:
    """Settings of an animation that starts from a picture, with its prompt, size, seed and networks."""
    fields = {"init_image": str(picture), "init": "auto"}
    try:
        stored = read_record(picture).get("settings", {})
        taken = ("prompt", "size", "vqgan", "clip", "transformer", "seed")
        return AnimateSettings.parse(
            {**settings.model_dump(), **{name: stored[name] for name in taken if name in stored}, **fields}
        )
    except (UserError, TypeError, AttributeError):  # the record of another program
        return AnimateSettings.parse({**settings.model_dump(), **fields})
