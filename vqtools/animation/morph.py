"""Films of pictures that are there already: one turning into the next, and a flight over a large one.

Frames are computed one at a time, each by its number alone: whatever was made stays when a run is cut short. Networks
are handed in. Knows pictures and frames; nothing about folders of networks or video files.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from vqtools.animation.settings import MorphSettings
from vqtools.core.errors import UserError
from vqtools.media.image import resize_and_crop, to_picture, to_tensor
from vqtools.models.vqgan import VQGAN


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
        return self.vqgan.codes_to_latents(self.vqgan.encode(to_tensor(picture).to(self.device)))

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
        return to_picture(self.vqgan.decode_latents(latents).clamp(-1, 1))
