"""Films of pictures that are there already: one turning into the next, and a flight over a large one.

Frames are computed one at a time, each by its number alone: whatever was made stays when a run is cut short. Networks
are handed in. Knows pictures and frames; nothing about folders of networks or video files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vqtools import media
from vqtools.animation.keyframes import Curve
from vqtools.animation.project import Project
from vqtools.animation.still_settings import FlySettings, MorphSettings
from vqtools.animation.video import FRAME_PATTERN
from vqtools.media import resize_and_crop
from vqtools.models.vqgan import VQGAN
from vqtools.settings import UserError


class FrameRenderer:
    """Frames by number as a job; those that the folder holds are not made again."""

    def __init__(self, settings: Any, project: Project, frame: Callable[[int], Image.Image]) -> None:
        self.settings, self.project, self._frame = settings, project, frame
        self.total, self.position = settings.frames, 0
        self._skip()

    def _path(self, number: int) -> Path:
        return self.project.frames / FRAME_PATTERN.format(number)

    def _skip(self) -> None:
        while self.position < self.total and self._path(self.position).is_file():
            self.position += 1

    @property
    def done(self) -> int:
        """Frames written so far."""
        return self.position

    def step(self) -> dict[str, float]:
        """One frame, written."""
        self.project.save_frame(self.position, self._frame(self.position), {})
        self.position += 1
        return {"frame": float(self.position)}

    def preview(self) -> Image.Image | None:
        """The newest frame."""
        return media.load_picture(self._path(self.position - 1)) if self.position else None

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = int(state["position"])


class Morph:
    """Pictures that turn into one another: call it with a frame's number.

    The way leads straight from codes' vectors to codes' vectors; whole codes are shown where the settings say so.
    """

    def __init__(self, pictures: Sequence[Image.Image], vqgan: VQGAN, settings: MorphSettings) -> None:
        if len(pictures) < 2:
            raise UserError("one picture turns into nothing; name two or more")
        self.vqgan, self.settings = vqgan, settings
        self.device = next(vqgan.parameters()).device
        self.stops = [self._latents(resize_and_crop(one, settings.size)) for one in pictures]
        if settings.loop:
            self.stops.append(self.stops[0])

    @torch.no_grad()
    def _latents(self, picture: Image.Image) -> Tensor:
        # of its codes: between them the decoder is at home, beside the codebook it is not
        return self.vqgan.codes_to_latents(self.vqgan.encode(media.to_tensor(picture).to(self.device)))

    def place(self, frame: int) -> tuple[int, float]:
        """The stop behind a frame, and how far it is to the next, 0 to 1: slow at the stops, which are held."""
        legs = len(self.stops) - 1
        way = frame / (self.settings.frames if self.settings.loop else max(1, self.settings.frames - 1)) * legs
        leg = min(int(way), legs - 1)
        hold = self.settings.hold / 2
        share = min(1.0, max(0.0, (way - leg - hold) / (1 - 2 * hold)))
        return leg, share * share * (3 - 2 * share)

    @torch.no_grad()
    def __call__(self, frame: int) -> Image.Image:
        leg, share = self.place(frame)
        latents = torch.lerp(self.stops[leg], self.stops[leg + 1], share)
        if self.settings.whole_codes:
            latents = self.vqgan.codes_to_latents(self.vqgan.quantize(latents).codes)
        return media.to_picture(self.vqgan.decode_latents(latents).clamp(-1, 1))


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
