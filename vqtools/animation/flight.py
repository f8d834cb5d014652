"""TODO: what this module is.

Split from vqtools.animation.stills.
"""

from __future__ import annotations

from PIL import Image

from vqtools.animation.keyframes import Curve
from vqtools.animation.settings import FlySettings
from vqtools.core.errors import UserError


class Flight:
    """A camera over one large picture, as Ken Burns had it: call it with a frame's number. Antialiased."""

    def __init__(self, picture: Image.Image, settings: FlySettings) -> None:
        self.picture, self.settings, self.last = picture, settings, settings.frames - 1
        self.curves = [
            Curve.parse(getattr(settings, name), interpolation=settings.interpolation) for name in ("x", "y", "zoom")
        ]
        for frame in range(0, settings.frames, -(-settings.frames // 2000)):
            self.crop_box(frame)

    def crop_box(self, frame: int) -> tuple[float, float, float, float]:
        """What is seen at a frame, in the picture's pixels: left, top, right, bottom; never beyond its edges."""
        x, y, zoom = (curve(frame, self.last) for curve in self.curves)
        if zoom < 1:
            raise UserError(f"frame {frame}: zoom {zoom:g}: must be at least 1, at which all of the picture is seen")
        (width, height), (w, h) = self.picture.size, self.settings.size
        scale = min(width / w, height / h) / zoom
        seen_w, seen_h = w * scale, h * scale
        if min(seen_w, seen_h) < 2:
            raise UserError(f"frame {frame}: zoom {zoom:g} sees less than two pixels of the picture")
        left = min(max(x * width - seen_w / 2, 0.0), width - seen_w)
        top = min(max(y * height - seen_h / 2, 0.0), height - seen_h)
        return left, top, left + seen_w, top + seen_h

    def __call__(self, frame: int) -> Image.Image:
        return self.picture.resize(self.settings.size, Image.Resampling.LANCZOS, box=self.crop_box(frame))
