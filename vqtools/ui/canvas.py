"""A layer over a picture, to draw on, to click and to drop files on: what no stock widget does.

Knows pictures and areas; nothing about what an area or a file is for. Without anywidget there is none: whoever uses it
has stock widgets that do the same.
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

MAX_FILE_BYTES = 64 * 2**20  # of a file that is dropped
_MAX_MASK_CHARS = 2**22  # characters
_PNG_DATA_URL = "data:image/png;base64,"


@functools.cache
def _canvas_class() -> Any:
    """The widget's class; None where anywidget is not installed."""
    try:
        import anywidget
    except ImportError:
        return None

    class Canvas(anywidget.AnyWidget):
        _esm = Path(__file__).with_name("canvas.js")
        size = traitlets.List([1, 1]).tag(sync=True)  # of the picture: width, height
        brush = traitlets.Bool(False).tag(sync=True)  # whether it can be drawn on
        radius = traitlets.Float(0.06).tag(sync=True)  # of the brush, as a share of the longer side
        erase = traitlets.Bool(False).tag(sync=True)
        mask = traitlets.Unicode("").tag(sync=True)  # what is drawn, white, as a PNG's address
        tint = traitlets.Unicode("#d1495b").tag(sync=True)
        pick = traitlets.Bool(False).tag(sync=True)  # whether a click is heard
        frames: Any = traitlets.List([]).tag(sync=True)  # left, top, right, bottom as shares, the first in the tint
        most = traitlets.Int(MAX_FILE_BYTES).tag(sync=True)  # bytes of a file

    return Canvas


def create_canvas(
    *,
    picked: Callable[[float, float, bool], None] | None = None,
    dropped: Callable[[str, bytes], None] | None = None,
    failed: Callable[[BaseException], None] | None = None,
) -> Any:
    """The layer as a widget, to stand beside the picture in one box; None where anywidget is not installed.

    picked(x, y, more): a click, as shares of the picture's sides; more with a key held. dropped(name, content): a file
    was dropped on the panel around it. failed(error): what they raised.
    """
    kind = _canvas_class()
    if kind is None:
        return None
    layer = kind()

    def heard(_: Any, message: Any, buffers: Any) -> None:
        try:
            _handle_message(message, buffers, picked, dropped)
        except Exception as error:
            if failed is None:
                raise
            failed(error)

    layer.on_msg(heard)
    return layer


def _handle_message(message: Any, buffers: Any, picked: Any, dropped: Any) -> None:
    if message.get("kind") == "pick" and picked is not None:
        picked(float(message["x"]), float(message["y"]), bool(message.get("more")))
    elif message.get("kind") == "drop" and dropped is not None and buffers:
        dropped(str(message.get("name", "")), bytes(buffers[0]))
    elif message.get("kind") == "large":
        raise UserError(
            f"{message.get('name')!r} is larger than the {MAX_FILE_BYTES >> 20} MB that can be dropped here"
        )


def decode_mask(mask: str) -> Image.Image | None:
    """What is drawn, as a picture whose opaque white is the area; None where nothing is."""
    if not mask:
        return None
    try:
        if not mask.startswith(_PNG_DATA_URL) or len(mask) > _MAX_MASK_CHARS:
            raise ValueError
        with Image.open(
            io.BytesIO(base64.b64decode(mask[len(_PNG_DATA_URL) :], validate=True)), formats=["PNG"]
        ) as picture:
            if max(picture.size) > 1024:
                raise ValueError
            return picture.convert("RGBA")
    except Exception:  # Pillow raises what it likes on a broken file
        raise UserError("what the brush sent is no mask; clear it and draw again") from None


def encode_mask(png: bytes) -> str:
    """A grey mask's PNG (white counts) -> what the layer shows, its black seen through."""
    grey = Image.open(io.BytesIO(png)).convert("L")
    white = Image.new("L", grey.size, 255)
    data = io.BytesIO()
    Image.merge("LA", (white, grey)).save(data, "PNG")
    return _PNG_DATA_URL + base64.b64encode(data.getvalue()).decode()
