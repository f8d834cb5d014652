"""Draw pictures in labelled rows on one sheet.

Knows labels and pictures; nothing about how they are made.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_MAX_SIDE = 384  # pixels of a picture's longer side on the sheet; larger ones are scaled down
_DEFAULT_SIDE = 128  # pixels, while there is no picture
_LABEL_COLOUR = (70, 70, 70)
_MISSING_COLOUR = (225, 225, 225)


class LabelledCell(Protocol):
    """A cell of a sheet: ``row`` names what it shares with its row, ``label`` what is its own."""

    @property
    def row(self) -> str:
        """Title of the row; consecutive cells with equal titles form a row."""

    @property
    def label(self) -> str:
        """Text above the picture."""


def draw_grid(cells: Sequence[LabelledCell], pictures: Sequence[Image.Image], columns: int = 0) -> Image.Image:
    """Draw the pictures of the first cells, each below its label; cells without a picture are grey.

    columns: for cells that all have the same row; by default the sheet is as square as possible.
    """
    thumbnails = [_thumbnail(picture) for picture in pictures]
    layout = GridLayout.of(cells, thumbnails, columns)
    sheet = Image.new("RGB", layout.size, "white")
    draw = ImageDraw.Draw(sheet)
    for y, title in layout.titles:
        text = _truncate(title, layout.font, layout.size[0] - 2 * layout.gap)
        draw.text((layout.gap, y), text, fill="black", font=layout.font)
    remaining = iter(thumbnails)
    for cell, (left, top, right, bottom) in zip(cells, layout.boxes, strict=True):
        label = _truncate(cell.label, layout.font, right - left)
        draw.text((left, top - layout.label_height), label, fill=_LABEL_COLOUR, font=layout.font)
        thumbnail = next(remaining, None)
        if thumbnail is None:
            draw.rectangle((left, top, right - 1, bottom - 1), fill=_MISSING_COLOUR)
        else:
            sheet.paste(thumbnail, (left, top))
    return sheet


@dataclass(frozen=True)
class GridLayout:
    """Where titles and pictures are on a sheet, in pixels."""

    size: tuple[int, int]  # width, height
    boxes: list[tuple[int, int, int, int]]  # left, top, right, bottom of each cell's picture
    titles: list[tuple[int, str]]  # top and text of each row's title
    font: Any
    label_height: int
    gap: int

    @classmethod
    def of(cls, cells: Sequence[LabelledCell], pictures: Sequence[Image.Image], columns: int = 0) -> GridLayout:
        """The layout for cells of which the first have these pictures; all get the size of the largest."""
        rows = [list(group) for _, group in itertools.groupby(cells, key=lambda cell: cell.row)]
        if len(rows) == 1:
            columns = columns or int(np.ceil(np.sqrt(len(cells))))
            rows = [rows[0][i : i + columns] for i in range(0, len(cells), columns)]
        sizes = [_thumbnail_size(picture) for picture in pictures] or [(_DEFAULT_SIDE, _DEFAULT_SIDE)]
        width, height = (max(size[axis] for size in sizes) for axis in (0, 1))
        font = ImageFont.load_default(max(10, min(16, width // 12)))
        label_height, gap = int(font.size * 1.6), max(2, width // 48)  # type: ignore[union-attr]
        boxes, titles, y = [], [], gap
        for row in rows:
            if row[0].row:
                titles.append((y, row[0].row))
                y += label_height
            top = y + label_height
            lefts = [gap + i * (width + gap) for i in range(len(row))]
            boxes += [(left, top, left + width, top + height) for left in lefts]
            y = top + height + gap
        sheet_width = max(len(row) for row in rows) * (width + gap) + gap
        return cls((sheet_width, y), boxes, titles, font, label_height, gap)


def _thumbnail_size(picture: Image.Image) -> tuple[int, int]:
    scale = min(1.0, _MAX_SIDE / max(picture.size))
    return picture.size if scale == 1 else (round(picture.width * scale), round(picture.height * scale))


def _thumbnail(picture: Image.Image) -> Image.Image:
    size = _thumbnail_size(picture)
    return picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)


def _truncate(text: str, font: Any, width: int) -> str:
    """The text, cut off with … if it is wider than ``width`` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
