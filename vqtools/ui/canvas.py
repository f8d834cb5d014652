"""A canvas over a picture, to draw on, to click and to drop files on, which no stock widget offers.

Knows pictures and areas; nothing about what an area or a file is for. Without anywidget there is no canvas: its users
then offer stock widgets for the same.
"""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import traitlets
from PIL import Image

from vqtools.core.errors import UserError

MAX_FILE_BYTES = 64 * 2**20  # of a dropped file
_MAX_MASK_CHARS = 2**22
_MAX_MASK_SIDE = 1024  # pixels
_PNG_DATA_URL = "data:image/png;base64,"


@functools.cache
def _canvas_class() -> Any:
    """The widget's class, or None if anywidget is not installed."""
    try:
        import anywidget
    except ImportError:
        return None

    class Canvas(anywidget.AnyWidget):
        """The traits are described where they are defined."""

        _esm = Path(__file__).with_name("canvas.js")
        size = traitlets.List([1, 1]).tag(sync=True)  # width and height of the picture
        brush = traitlets.Bool(False).tag(sync=True)  # whether it can be drawn on
        radius = traitlets.Float(0.06).tag(sync=True)  # of the brush, as a fraction of the longer side
        erase = traitlets.Bool(False).tag(sync=True)
        mask = traitlets.Unicode("").tag(sync=True)  # white where drawn, as the data URL of a PNG
        tint = traitlets.Unicode("#d1495b").tag(sync=True)
        pick = traitlets.Bool(False).tag(sync=True)  # whether clicks are reported
        frames: Any = traitlets.List([]).tag(sync=True)  # left, top, right, bottom as fractions; the first in the tint
        max_bytes = traitlets.Int(MAX_FILE_BYTES).tag(sync=True)  # of a dropped file

    return Canvas


def create_canvas(
    *,
    picked: Callable[[float, float, bool], None] | None = None,
    dropped: Callable[[str, bytes], None] | None = None,
    failed: Callable[[BaseException], None] | None = None,
) -> Any:
    """A canvas to place in one box with the picture, or None if anywidget is not installed.

    picked(x, y, extend): a click, in fractions of the picture's sides; extend: with Shift, Ctrl or Meta held.
    dropped(name, content): a file was dropped on the panel around the canvas. failed(error): an error of these two.
    """
    canvas_class = _canvas_class()
    if canvas_class is None:
        return None
    canvas = canvas_class()

    def handle(_: Any, message: Any, buffers: Any) -> None:
        try:
            _handle_message(message, buffers, picked, dropped)
        except Exception as error:
            if failed is None:
                raise
            failed(error)

    canvas.on_msg(handle)
    return canvas


def _handle_message(message: Any, buffers: Any, picked: Any, dropped: Any) -> None:
    if message.get("kind") == "pick" and picked is not None:
        picked(float(message["x"]), float(message["y"]), bool(message.get("extend")))
    elif message.get("kind") == "drop" and dropped is not None and buffers:
        dropped(str(message.get("name", "")), bytes(buffers[0]))
    elif message.get("kind") == "large":
        raise UserError(
            f"{message.get('name')!r} is larger than the {MAX_FILE_BYTES >> 20} MB allowed for dropped files"
        )


def decode_mask(mask: str) -> Image.Image | None:
    """The drawing as an RGBA picture, opaque white where drawn; None if nothing is. Raises UserError if invalid."""
    if not mask:
        return None
    try:
        if not mask.startswith(_PNG_DATA_URL) or len(mask) > _MAX_MASK_CHARS:
            raise ValueError
        with Image.open(
            io.BytesIO(base64.b64decode(mask[len(_PNG_DATA_URL) :], validate=True)), formats=["PNG"]
        ) as picture:
            if max(picture.size) > _MAX_MASK_SIDE:
                raise ValueError
            return picture.convert("RGBA")
    except Exception:  # Pillow raises many kinds of errors on a broken file
        raise UserError("the browser sent no valid mask; press Clear and draw again") from None


def encode_mask(png: bytes) -> str:
    """The data URL of a mask for the canvas, from a greyscale PNG: its black becomes transparent."""
    grey = Image.open(io.BytesIO(png)).convert("L")
    white = Image.new("L", grey.size, 255)
    data = io.BytesIO()
    Image.merge("LA", (white, grey)).save(data, "PNG")
    return _PNG_DATA_URL + base64.b64encode(data.getvalue()).decode()
