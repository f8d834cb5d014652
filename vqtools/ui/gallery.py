"""A gallery of the pictures in a folder with their settings, the newest first.

Knows PNGs and their records; nothing about what is done with a chosen picture.
"""

from __future__ import annotations

import functools
import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from vqtools.core.errors import UserError, ellipsize
from vqtools.core.settings import format_value
from vqtools.media.image import load_picture
from vqtools.media.png_record import read_record
from vqtools.painting.settings import PaintSettings
from vqtools.ui.callbacks import CallbackGuard
from vqtools.ui.widget_bytes import jpeg_bytes

PAGE_SIZE = 8  # pictures
_THUMBNAIL_SIDE = 224  # pixels; twice the side on the page, for sharp screens
_MAX_SETTINGS_CHARS = 220  # in a card's description
_JPEG_QUALITY = 85


class Gallery:
    """Pages of cards with a thumbnail, the prompt and the settings.

    ``open(path)`` restores a picture's settings, ``start(path)`` starts from it. Nothing is read before
    :meth:`refresh`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        open: Callable[[Path], None],
        start: Callable[[Path], None],
        guard: CallbackGuard,
    ) -> None:
        self.folder, self._open, self._start, self._guard = folder, open, start, guard
        self._page = 0
        self.cards = widgets.Box()
        self.cards.add_class("vqtools-cards")
        self.message = widgets.HTML()
        self.message.add_class("vqtools-said")
        auto = widgets.Layout(width="auto")
        self.newer = widgets.Button(description="Newer", layout=auto)
        self.older = widgets.Button(description="Older", layout=auto)
        self.newer.on_click(guard(lambda: self._turn_pages(-1)))
        self.older.on_click(guard(lambda: self._turn_pages(1)))
        row = widgets.HBox([self.newer, self.older, self.message])
        row.add_class("vqtools-row")
        self.view = widgets.VBox([self.cards, row])

    def refresh(self) -> None:
        """Read the folder again."""
        paths = newest_pictures(self.folder)
        self._page = max(0, min(self._page, (len(paths) - 1) // PAGE_SIZE))
        first = self._page * PAGE_SIZE
        self.cards.children = [self._card(path) for path in paths[first : first + PAGE_SIZE]]
        self.newer.disabled, self.older.disabled = first == 0, first + PAGE_SIZE >= len(paths)
        last = min(first + PAGE_SIZE, len(paths))
        self.message.value = f"{first + 1} to {last} of {len(paths)}" if paths else "There are no pictures here yet."

    def _turn_pages(self, pages: int) -> None:
        self._page += pages
        self.refresh()

    def _card(self, path: Path) -> Any:
        thumbnail, prompt, settings = _read_card(path, path.stat().st_mtime_ns)
        picture = widgets.Image(value=thumbnail, format="jpeg", layout=widgets.Layout(width="112px", height="auto"))
        text = widgets.HTML(
            f'<b title="{html.escape(prompt)}">{html.escape(prompt)}</b>'
            f'<span title="{html.escape(settings)}">{html.escape(settings)}</span>'
        )
        buttons = []
        actions = [("Start from it", "start the next picture from this one", self._start)]
        if settings:
            actions.insert(0, ("Its settings", "restore all of them in the form", self._open))
        for label, help, act in actions:
            button = widgets.Button(description=label, tooltip=help, layout=widgets.Layout(width="auto"))
            button.on_click(self._guard(functools.partial(act, path)))
            buttons.append(button)
        card = widgets.HBox([picture, widgets.VBox([text, widgets.HBox(buttons)])])
        card.add_class("vqtools-card")
        return card


def newest_pictures(folder: Path) -> list[Path]:
    """The PNGs of a folder, the newest first."""
    return sorted(folder.glob("*.png"), key=lambda path: path.stat().st_mtime_ns, reverse=True)


@functools.lru_cache(maxsize=256)
def _read_card(path: Path, _version: int) -> tuple[bytes, str, str]:
    """Thumbnail as JPEG, prompt and settings in words; of other files the name and no settings.

    _version: modification time in ns, so that a changed file is read again.
    """
    try:
        picture = load_picture(path)
    except UserError:
        return b"", path.name, ""
    picture.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    thumbnail = jpeg_bytes(picture, _JPEG_QUALITY)
    try:
        record = read_record(path)
        settings = PaintSettings.parse(record["settings"])
    except (UserError, KeyError, TypeError):
        return thumbnail, path.name, ""
    return thumbnail, settings.prompt, _describe_settings(settings, record)


def _describe_settings(settings: PaintSettings, record: dict[str, Any]) -> str:
    """The settings that differ from the defaults; size and seed always."""
    parts = [str(record["activity"])] if record.get("activity", "paint") != "paint" else []
    for option in PaintSettings.options():
        name, value = option.name, getattr(settings, option.name)
        if name in ("size", "seed") or (value not in (option.default, "") and name not in ("prompt", "preset")):
            parts.append(f"{name.replace('_', ' ')} {format_value(value)}")
    if record.get("journal"):
        parts.append(f"{len(record['journal'])} edits")
    return ellipsize(" · ".join(parts), _MAX_SETTINGS_CHARS)
