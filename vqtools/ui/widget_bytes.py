"""Pictures encoded for image widgets.

Knows picture formats; nothing about what a picture shows.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image


def jpeg_bytes(image: Image, quality: int) -> bytes:
    """A picture as JPEG with full colour resolution: chroma subsampling blurs the edges of small pictures."""
    data = io.BytesIO()
    image.convert("RGB").save(data, "JPEG", quality=quality, subsampling=0)
    return data.getvalue()


def png_bytes(image: Image) -> bytes:
    """A picture as PNG."""
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()
