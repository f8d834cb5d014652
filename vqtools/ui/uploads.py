"""Uploaded files: a button for ipywidgets 7 and 8, and saving under a safe, free name.

Knows bytes, names and a folder; nothing about the content.
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
    """An upload button; ``take(name, content)`` is called for each file, also when the same one is uploaded again.

    accept: file types, as in HTML.
    """
    button = widgets.FileUpload(
        description=text, tooltip=help, accept=accept, multiple=False, layout=widgets.Layout(width="auto")
    )
    button.add_class("vqtools-upload")
    button.add_class(f"vqtools-{text.lower().replace(' ', '-')}")  # the style sheet shows the label without a count

    def uploaded(_: Any) -> None:
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

    button.observe(uploaded, names=["value"])
    return button


def _uploaded_files(value: Any) -> list[tuple[str, bytes]]:
    """Names and contents of uploads.

    ipywidgets 7 has ``{name: {"content": bytes}}``, 8 has ``({"name": …, "content": memoryview},)``.
    """
    if isinstance(value, dict):
        return [(str(name), bytes(file["content"])) for name, file in value.items()]
    return [(str(file["name"]), bytes(file["content"])) for file in value]


def save_upload(folder: Path, name: str, content: bytes) -> Path:
    """Write a file into a folder atomically; returns its path.

    The name is reduced to safe characters, and numbered if a file of that name with other content exists.
    """
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
