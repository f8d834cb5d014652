"""Pictures that are dropped on the painting panel or uploaded: restore their settings, or use them as an input.

Knows records and what can be done with a picture; nothing about how it is painted.
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
from vqtools.ui.callbacks import CallbackGuard
from vqtools.ui.uploads import save_upload

_MAX_NAMES = 4  # of files, in a message


@dataclass
class SettingsOrigin:
    """The record that the settings in the form come from, and whether files that only it names may be read."""

    record: dict[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()  # that the record names but does not contain
    trusted: bool = False

    def check(self, settings: PaintSettings) -> None:
        """Raise UserError if settings read a file that only the record names and that is not allowed yet."""
        if self.trusted:
            return
        networks = {settings.vqgan, settings.transformer, *parse_clips(settings.clip)}
        if untrusted := {*named_files(settings.model_dump()), *networks} & set(self.files):
            names = ", ".join(shorten(name) for name in sorted(untrusted))
            raise UserError(
                f"the imported settings read {names}, named only by the picture: press Allow, or clear the field"
            )


class PictureImport:
    """A row that describes the imported picture and offers what can be done with it; hidden without one.

    folder: where pictures that are used are saved. load(settings) shows settings in the form, replay(record) repeats a
    run, use(field, path) sets "init_image" or "style_image", or adds to the "prompt".
    """

    def __init__(
        self,
        folder: Path,
        *,
        load: Callable[[PaintSettings], None],
        replay: Callable[[Mapping[str, Any]], None],
        use: Callable[[str, Path], None],
        guard: CallbackGuard,
    ) -> None:
        self.origin = SettingsOrigin()
        self._folder, self._load = folder, load
        self._file: Path | tuple[str, bytes] | None = None
        self.message = widgets.HTML()
        self.message.add_class("vqtools-said")
        self.buttons: dict[str, Any] = {}
        for name, text, help, act in (
            ("allow", "Allow", "allow these files to be read", self._allow_files),
            ("again", "Make again", "repeat the run with all its edits", lambda: replay(self.origin.record)),
            ("start", "Start from it", "start the next picture from this one", lambda: use("init_image", self.path())),
            ("prompt", "As a prompt", "guide the picture towards this one", lambda: use("prompt", self.path())),
            ("style", "As a style", "paint only with codes that this picture uses",
             lambda: use("style_image", self.path())),
            ("hide", "×", "hide this row", self.hide),
        ):  # fmt: skip
            button = widgets.Button(description=text, tooltip=help, layout=widgets.Layout(width="auto"))
            button.on_click(guard(act))
            self.buttons[name] = button
        self.view = widgets.HBox([self.message, *self.buttons.values()])
        self.view.add_class("vqtools-row")
        self.view.add_class("vqtools-tools")
        self.hide()

    def take(self, name: str, content: bytes) -> None:
        """Import a file that was dropped or uploaded. Raises UserError if it is not a picture."""
        load_picture(content, name)  # raises UserError if it is not a picture
        try:
            record = read_record(content, name)
        except UserError:
            record = {}
        self._show_import(name, record, (name, content))

    def open(self, path: Path) -> None:
        """Import a PNG with a record from disk."""
        self._show_import(path.name, read_record(path), path)

    def path(self) -> Path:
        """The picture's file; a picture from outside is saved first."""
        if self._file is None:
            raise UserError("there is no picture to use; drop one on the panel")
        if isinstance(self._file, tuple):
            self._file = save_upload(self._folder, *self._file)
        return self._file

    def hide(self) -> None:
        """Hide the row; imported settings stay in the form."""
        self.view.layout.display = "none"

    def _show_import(self, name: str, record: dict[str, Any], file: Path | tuple[str, bytes]) -> None:
        """Describe a picture and load its settings. If its record is faulty, nothing has changed."""
        message = f"{name}: it contains no settings of vqtools."
        origin, edited, settings = self.origin, False, None
        if record.get("activity", "paint") == "paint" and record:
            settings = PaintSettings.parse(settings_from_record(record, {}))
            origin = SettingsOrigin(record, tuple(requested_files(record)))
            edited = bool(EditLog.from_record(record).entries)
            message = f"{name}: its settings are in the form{'; its run was edited' if edited else ''}."
        elif record:
            message = f"{name}: made by {record.get('activity')}, not painted; its settings fit another notebook."
        self.origin, self._file = origin, file
        if settings is not None:
            self._load(settings)
        needs_permission = record and self.origin.record is record and self.origin.files
        if needs_permission:
            names = ", ".join(shorten(file) for file in self.origin.files[:_MAX_NAMES])
            hidden = len(self.origin.files) - _MAX_NAMES
            message += f" They read {names}{f' and {hidden} more' if hidden > 0 else ''} on this machine."
        self.message.value = html.escape(message)
        self.buttons["allow"].layout.display = "" if needs_permission else "none"
        self.buttons["again"].layout.display = "" if edited else "none"
        self.view.layout.display = ""

    def _allow_files(self) -> None:
        self.origin.trusted = True
        self.buttons["allow"].layout.display = "none"
        self.message.value += " Allowed."
