"""A camera flight over one large picture: each frame is a crop of it, resampled (the Ken Burns effect).

Knows pictures and curves; nothing about folders or video files.
"""

from __future__ import annotations

from PIL import Image

from vqtools.animation.keyframes import Curve
from vqtools.animation.settings import FlySettings
from vqtools.core.errors import UserError

_MAX_CHECKED_FRAMES = 2_000  # longer flights are checked at this many evenly spaced frames


class Flight:
    """A flight over a picture; call it with a frame number for that frame, antialiased.

    UserError at once if a frame would see more than the picture, or less than two of its pixels.
    """

    def __init__(self, picture: Image.Image, settings: FlySettings) -> None:
        self.picture, self.settings, self.last_frame = picture, settings, settings.frames - 1
        self.curves = [
            Curve.parse(getattr(settings, name), interpolation=settings.interpolation) for name in ("x", "y", "zoom")
        ]
        for frame in range(0, settings.frames, -(-settings.frames // _MAX_CHECKED_FRAMES)):
            self.crop_box(frame)

    def crop_box(self, frame: int) -> tuple[float, float, float, float]:
        """The part that a frame shows, in pixels: left, top, right, bottom; moved inside the picture's borders."""
        x, y, zoom = (curve(frame, self.last_frame) for curve in self.curves)
        if zoom < 1:
            raise UserError(f"frame {frame}: zoom {zoom:g}: must be at least 1, which shows the whole picture")
        (width, height), (w, h) = self.picture.size, self.settings.size
        scale = min(width / w, height / h) / zoom
        crop_w, crop_h = w * scale, h * scale
        if min(crop_w, crop_h) < 2:
            raise UserError(f"frame {frame}: zoom {zoom:g} shows less than two pixels of the picture")
        left = min(max(x * width - crop_w / 2, 0.0), width - crop_w)
        top = min(max(y * height - crop_h / 2, 0.0), height - crop_h)
        return left, top, left + crop_w, top + crop_h

    def __call__(self, frame: int) -> Image.Image:
        """The frame's picture at the settings' size."""
        return self.picture.resize(self.settings.size, Image.Resampling.LANCZOS, box=self.crop_box(frame))
