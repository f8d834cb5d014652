"""A picture that is given to the painting panel: one of ours brings its settings back, any may be started from.

Knows records and what a person may want with a picture; nothing about how it is painted.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from vqtools.core.errors import UserError, shorten
from vqtools.media.image import load_picture
from vqtools.media.png_record import read_record
from vqtools.painting.edit_log import EditLog
from vqtools.painting.image_inputs import named_files, requested_files
from vqtools.painting.parsers import parse_clips
from vqtools.painting.settings import PaintSettings
from vqtools.pipelines.reproduce import settings_from_record
from vqtools.ui.uploads import save_upload

_MAX_NAMES = 4


@dataclass
class SettingsOrigin:
    """Where the settings in the form come from: a record, and whether the files that it names may be read."""

    record: dict[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()  # that it names and does not hold
    trusted: bool = False

    def check(self, settings: PaintSettings) -> None:
        """UserError where settings would read a file that only the record named, before it was allowed."""
        if self.trusted:
            return
        networks = {settings.vqgan, settings.transformer, *parse_clips(settings.clip)}
        wanted = {*named_files(settings.model_dump()), *networks} & set(self.files)
        if wanted:
            names = ", ".join(shorten(name) for name in sorted(wanted))
            raise UserError(f"the picture whose settings these are wants to read {names}: press Allow, or clear it")


class PictureImport:
    """The row that says what has come, and what can be done with it; hidden while there is nothing.

    keep: folder for pictures that are used. load(settings), again(record), use(field, path): what the buttons ask of
    the panel; `use` gets "init_image", "style_image" or "prompt".
    """

    def __init__(
        self,
        keep: Path,
        *,
        load: Callable[[PaintSettings], None],
        again: Callable[[Mapping[str, Any]], None],
        use: Callable[[str, Path], None],
        wrap: Callable[[Callable[[], None]], Callable[[Any], None]],
    ) -> None:
        self.origin = SettingsOrigin()
        self._keep, self._load = keep, load
        self._file: Path | tuple[str, bytes] | None = None
        self.words = widgets.HTML()
        self.words.add_class("vqtools-said")
        self.buttons: dict[str, Any] = {}
        for name, text, help, act in (
            ("allow", "Allow", "let these files be read", self._allow_files),
            ("again", "Make again", "follow every edit and stroke, as it was made", lambda: again(self.origin.record)),
            ("start", "Start from it", "begin the next picture with this one", lambda: use("init_image", self.path())),
            ("prompt", "As a prompt", "draw the picture towards this one", lambda: use("prompt", self.path())),
            ("style", "Its codes alone", "paint with what this one is made of",
             lambda: use("style_image", self.path())),
            ("away", "×", "put it away", self.hide),
        ):  # fmt: skip
            button = widgets.Button(description=text, tooltip=help, layout=widgets.Layout(width="auto"))
            button.on_click(wrap(act))
            self.buttons[name] = button
        self.view = widgets.HBox([self.words, *self.buttons.values()])
        self.view.add_class("vqtools-row")
        self.view.add_class("vqtools-tools")
        self.hide()

    def take(self, name: str, content: bytes) -> None:
        """A file that was dropped or uploaded."""
        load_picture(content, name)  # what is no picture is said
        try:
            record = read_record(content, name)
        except UserError:
            record = {}
        self._show_import(name, record, (name, content))

    def open(self, path: Path) -> None:
        """A picture that lies here."""
        self._show_import(path.name, read_record(path), path)

    def path(self) -> Path:
        """The picture as a file; kept beside the others where it came from outside."""
        if self._file is None:
            raise UserError("there is no picture to use; drop one on the panel")
        if isinstance(self._file, tuple):
            self._file = save_upload(self._keep, *self._file)
        return self._file

    def hide(self) -> None:
        """Hide the row; settings that came stay in the form."""
        self.view.layout.display = "none"

    def _show_import(self, name: str, record: dict[str, Any], file: Path | tuple[str, bytes]) -> None:
        """Show what a picture brings; where its record can't be followed, nothing has changed."""
        words = f"{name}: no settings of vqtools inside."
        origin, steered, settings = self.origin, False, None
        if record.get("activity", "paint") == "paint" and record:
            settings = PaintSettings.parse(settings_from_record(record, {}))
            origin = SettingsOrigin(record, tuple(requested_files(record)))
            steered = bool(EditLog.from_record(record).entries)
            words = f"{name}: its settings are in the form{', and it was steered' if steered else ''}."
        elif record:
            words = f"{name}: made by {record.get('activity')}, not painted; its settings belong to another page."
        self.origin, self._file = origin, file
        if settings is not None:
            self._load(settings)
        asks = record and self.origin.record is record and self.origin.files
        if asks:
            shown = ", ".join(shorten(one) for one in self.origin.files[:_MAX_NAMES])
            more = len(self.origin.files) - _MAX_NAMES
            words += f" It wants to read {shown}{f' and {more} more' if more > 0 else ''} on this machine."
        self.words.value = html.escape(words)
        self.buttons["allow"].layout.display = "" if asks else "none"
        self.buttons["again"].layout.display = "" if steered else "none"
        self.view.layout.display = ""

    def _allow_files(self) -> None:
        self.origin.trusted = True
        self.buttons["allow"].layout.display = "none"
        self.words.value += " Allowed."
