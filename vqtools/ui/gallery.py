"""The pictures of a folder with their settings beside them, the newest first.

Knows PNGs and their records; nothing about what is done with one that is chosen.
"""

from __future__ import annotations

import functools
import html
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from vqtools.core.errors import UserError
from vqtools.core.settings import format_value
from vqtools.media.image import load_picture
from vqtools.media.png_record import read_record
from vqtools.painting.settings import PaintSettings

PAGE_SIZE = 8  # pictures at a time
_THUMBNAIL_SIDE = 224  # pixels of a small picture, twice what it measures on the page
_MAX_SETTINGS_CHARS = 220  # characters of settings


class Gallery:
    """Cards of small picture, prompt and settings; ``open`` and ``start`` are called with a picture's file.

    Nothing is read before :meth:`refresh`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        open: Callable[[Path], None],
        start: Callable[[Path], None],
        wrap: Callable[[Callable[[], None]], Callable[[Any], None]],
    ) -> None:
        self.folder, self._open, self._start, self._wrap = folder, open, start, wrap
        self._page = 0
        self.cards = widgets.Box()
        self.cards.add_class("vqtools-cards")
        self.words = widgets.HTML()
        self.words.add_class("vqtools-said")
        auto = widgets.Layout(width="auto")
        self.newer = widgets.Button(description="Newer", layout=auto)
        self.older = widgets.Button(description="Older", layout=auto)
        self.newer.on_click(wrap(lambda: self._turn(-1)))
        self.older.on_click(wrap(lambda: self._turn(1)))
        row = widgets.HBox([self.newer, self.older, self.words])
        row.add_class("vqtools-row")
        self.view = widgets.VBox([self.cards, row])

    def refresh(self) -> None:
        """Read the folder anew."""
        made = newest_pictures(self.folder)
        self._page = max(0, min(self._page, (len(made) - 1) // PAGE_SIZE))
        first = self._page * PAGE_SIZE
        self.cards.children = [self._card(path) for path in made[first : first + PAGE_SIZE]]
        self.newer.disabled, self.older.disabled = first == 0, first + PAGE_SIZE >= len(made)
        last = min(first + PAGE_SIZE, len(made))
        self.words.value = f"{first + 1} to {last} of {len(made)}" if made else "Nothing is painted here yet."

    def _turn(self, pages: int) -> None:
        self._page += pages
        self.refresh()

    def _card(self, path: Path) -> Any:
        small, prompt, settings = _read_card(path, path.stat().st_mtime_ns)
        picture = widgets.Image(value=small, format="jpeg", layout=widgets.Layout(width="112px", height="auto"))
        text = widgets.HTML(
            f'<b title="{html.escape(prompt)}">{html.escape(prompt)}</b>'
            f'<span title="{html.escape(settings)}">{html.escape(settings)}</span>'
        )
        buttons = []
        wanted = [("Start from it", "begin the next picture with this one", self._start)]
        if settings:
            wanted.insert(0, ("Its settings", "bring all of them back into the form", self._open))
        for words, help, act in wanted:
            button = widgets.Button(description=words, tooltip=help, layout=widgets.Layout(width="auto"))
            button.on_click(self._wrap(functools.partial(act, path)))
            buttons.append(button)
        card = widgets.HBox([picture, widgets.VBox([text, widgets.HBox(buttons)])])
        card.add_class("vqtools-card")
        return card


def newest_pictures(folder: Path) -> list[Path]:
    """The PNGs of a folder, the newest first."""
    return sorted(folder.glob("*.png"), key=lambda path: path.stat().st_mtime_ns, reverse=True)


@functools.lru_cache(maxsize=256)
def _read_card(path: Path, version: int) -> tuple[bytes, str, str]:
    """A small JPEG, the prompt, the settings in words; of a stranger's file the name, and no settings."""
    try:
        picture = load_picture(path)
    except UserError:
        return b"", path.name, ""
    picture.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=85)
    try:
        record = read_record(path)
        settings = PaintSettings.parse(record["settings"])
    except (UserError, KeyError, TypeError):
        return data.getvalue(), path.name, ""
    return data.getvalue(), settings.prompt, _describe_settings(settings, record)


def _describe_settings(settings: PaintSettings, record: dict[str, Any]) -> str:
    """What is not as it comes, the size and the seed always."""
    told = [f"{record['activity']}"] if record.get("activity", "paint") != "paint" else []
    for one in PaintSettings.options():
        value = getattr(settings, one.name)
        if one.name in ("size", "seed") or (value not in (one.default, "") and one.name not in ("prompt", "preset")):
            told.append(f"{one.name.replace('_', ' ')} {format_value(value)}")
    if record.get("journal"):
        told.append(f"{len(record['journal'])} times steered")
    text = " · ".join(told)
    return text if len(text) <= _MAX_SETTINGS_CHARS else text[: _MAX_SETTINGS_CHARS - 1] + "…"
