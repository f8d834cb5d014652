"""A morph: pictures that turn into one another through the latent space of a VQGAN.

Each frame depends only on its number, so a run that was stopped continues with the missing ones. The VQGAN is an
argument. Knows pictures and frames; nothing about folders or video files.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from vqtools.animation.easing import smoothstep
from vqtools.animation.settings import MorphSettings
from vqtools.core.errors import UserError
from vqtools.media.image import resize_and_crop, to_picture, to_tensor
from vqtools.models.vqgan import VQGAN


class Morph:
    """A morph between pictures; call it with a frame number for that frame.

    Interpolates linearly between the codebook vectors of the pictures' codes; ``whole_codes`` quantizes the result.
    """

    def __init__(self, pictures: Sequence[Image.Image], vqgan: VQGAN, settings: MorphSettings) -> None:
        if len(pictures) < 2:
            raise UserError("a morph needs two or more pictures")
        self.vqgan, self.settings = vqgan, settings
        self.device = next(vqgan.parameters()).device
        self.waypoints = [self._encode(resize_and_crop(picture, settings.size)) for picture in pictures]
        if settings.loop:
            self.waypoints.append(self.waypoints[0])

    @torch.no_grad()
    def _encode(self, picture: Image.Image) -> Tensor:
        # quantized: the decoder was trained on codebook vectors, not on the encoder's output
        return self.vqgan.codes_to_latents(self.vqgan.encode(to_tensor(picture).to(self.device)))

    def position_at(self, frame: int) -> tuple[int, float]:
        """The index of the waypoint before a frame, and the eased progress in [0, 1] to the next one.

        Each waypoint is held for the fraction ``hold`` of the time.
        """
        legs = len(self.waypoints) - 1
        position = frame / (self.settings.frames if self.settings.loop else max(1, self.settings.frames - 1)) * legs
        leg = min(int(position), legs - 1)
        hold = self.settings.hold / 2
        return leg, smoothstep(min(1.0, max(0.0, (position - leg - hold) / (1 - 2 * hold))))

    @torch.no_grad()
    def __call__(self, frame: int) -> Image.Image:
        """The frame's picture at the settings' size."""
        leg, progress = self.position_at(frame)
        latents = torch.lerp(self.waypoints[leg], self.waypoints[leg + 1], progress)
        if self.settings.whole_codes:
            latents = self.vqgan.codes_to_latents(self.vqgan.quantize(latents).codes)
        return to_picture(self.vqgan.decode_latents(latents).clamp(-1, 1))
