"""A picture handed from the painting page to the one that animates: a file that says where it lies.

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
    """Leave word in the animations' folder that the next one begins with a picture."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / FILE_NAME, json.dumps({"picture": str(picture.absolute())}))
    return folder / FILE_NAME


def load_start_picture(folder: Path) -> Path | None:
    """The picture that was handed over and is still there, or None."""
    try:
        told = json.loads((folder / FILE_NAME).read_text("utf-8"))
        picture = Path(told["picture"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return picture if picture.is_file() else None


def clear_start_picture(folder: Path) -> None:
    """It was used: the next animation begins without it."""
    (folder / FILE_NAME).unlink(missing_ok=True)


def settings_from_picture(picture: Path, settings: AnimateSettings) -> AnimateSettings:
    """The settings of an animation whose first frame is painted from a picture, with its prompt, size and networks."""
    fields = {"init_image": str(picture), "init": "auto"}
    try:
        stored = read_record(picture).get("settings", {})
        same = ("prompt", "size", "vqgan", "clip", "transformer", "seed")
        return AnimateSettings.parse(
            {**settings.model_dump(), **{name: stored[name] for name in same if name in stored}, **fields}
        )
    except (UserError, TypeError, AttributeError):  # a picture of another program
        return AnimateSettings.parse({**settings.model_dump(), **fields})
