"""Files that a person gives a panel: uploads of ipywidgets 7 and 8, and where they are kept.

Knows bytes, names and a folder; nothing about what is in them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from vqtools.core.files import atomic_write
from vqtools.media.image import PICTURE_SUFFIXES

PICTURE_EXTENSIONS = ",".join(PICTURE_SUFFIXES)


def upload_button(text: str, help: str, take: Callable[[str, bytes], None], accept: str = PICTURE_EXTENSIONS) -> Any:
    """A button that takes a file: ``take(name, content)`` is called with each, and may be called with one again."""
    button = widgets.FileUpload(
        description=text, tooltip=help, accept=accept, multiple=False, layout=widgets.Layout(width="auto")
    )
    button.add_class("vqtools-upload")
    button.add_class(f"vqtools-{text.lower().replace(' ', '-')}")  # the style sheet writes it without the count

    def given(_: Any) -> None:
        files = _uploaded_files(button.value)
        if not files:
            return
        if isinstance(button.value, dict):  # ipywidgets 7
            button.value.clear()
            button._counter = 0
        else:
            button.value = ()
        for name, content in files:
            take(name, content)

    button.observe(given, names=["value"])
    return button


def _uploaded_files(value: Any) -> list[tuple[str, bytes]]:
    """``{name: {"content": bytes}}`` of ipywidgets 7, ``({"name": …, "content": memoryview},)`` of 8."""
    if isinstance(value, dict):
        return [(str(name), bytes(one["content"])) for name, one in value.items()]
    return [(str(one["name"]), bytes(one["content"])) for one in value]


def save_upload(folder: Path, name: str, content: bytes) -> Path:
    """Write a file into a folder under its name, whole or not at all; another of that name stays."""
    path = Path(re.sub(r"[^\w.-]+", "-", Path(name.replace("\\", "/")).name).strip(".-") or "picture")
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, 10_000):
        target = folder / (path.name if number == 1 else f"{path.stem}-{number}{path.suffix}")
        if target.exists():
            if target.is_file() and target.stat().st_size == len(content) and target.read_bytes() == content:
                return target
            continue
        with atomic_write(target) as temporary:
            temporary.write_bytes(content)
        return target
    raise OSError(f"{folder} holds too many files called {path.name}")
