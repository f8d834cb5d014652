"""Score a picture by its likelihood under a transformer: the command `score` and `vqtools.score`.

Knows pictures and networks by name; how the codes are scored is `vqtools.sampling.likelihood`'s.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from vqtools.core.device import Machine, choose_machine
from vqtools.core.errors import UserError
from vqtools.core.job import finish
from vqtools.media.image import contact_sheet, format_size, load_picture, resize_and_crop, to_picture, to_tensor
from vqtools.models.gpt import GPT
from vqtools.models.vqgan import VQGAN
from vqtools.pipelines.sampling_networks import load_sampling_networks
from vqtools.sampling.condition import check_condition, condition_from_settings, encode_condition, mask_codes
from vqtools.sampling.likelihood import Scorer
from vqtools.sampling.settings import ScoreSettings


class ScoreJob(Scorer):
    """The negative log-likelihood of a picture's codes, as a job; ``step()`` reads one window.

    The picture is cropped to whole codes. UserError if it is smaller than one, or if the condition does not fit.
    """

    def __init__(self, settings: ScoreSettings, picture: Image.Image, vqgan: VQGAN, gpt: GPT, machine: Machine) -> None:
        f = vqgan.f
        inner = (picture.width // f * f, picture.height // f * f)
        if min(inner) < f:
            raise UserError(f"a picture of {format_size(picture)} is smaller than one code of {f}x{f} pixels")
        self.image = resize_and_crop(picture, inner)
        with torch.no_grad():
            codes = vqgan.to(machine.device).encode(to_tensor(self.image).to(machine.device))
        check_condition(gpt, settings)
        condition = condition_from_settings(gpt, settings, machine.device)
        if settings.condition:
            beside = resize_and_crop(load_picture(settings.condition), inner)
            condition = condition._replace(spatial=encode_condition(beside, vqgan, gpt, machine.device))
        elif gpt.config.spatial:  # the likelihood of a picture that is sampled from nothing: no code is known
            condition = condition._replace(spatial=mask_codes(gpt, codes))
        try:
            super().__init__(gpt, codes, condition, (settings.stride, settings.stride))
        except ValueError as error:
            raise UserError(str(error)) from None

    @property
    def bits(self) -> float:
        """Mean bits per code; 2 to their power is the perplexity."""
        return float(self.nats.nanmean()) / math.log(2)

    def heat_map(self) -> Image.Image:
        """The picture, and beside it each code's negative log-likelihood, from black (0) over red to white."""
        relative = (self.nats[0] / self.nats[0].nan_to_num().max().clamp(min=1e-9)).nan_to_num().clamp(0, 1)
        channels = [(3 * relative - start).clamp(0, 1) for start in range(3)]
        heat = to_picture(torch.stack(channels) * 2 - 1).resize(self.image.size, Image.Resampling.NEAREST)
        return contact_sheet([self.image, heat])


def create_score_job(picture: Image.Image, settings: ScoreSettings) -> ScoreJob:
    """Create a job that scores a picture; networks are loaded by the names in the settings."""
    machine = choose_machine(precision="fp32")
    vqgan, gpt, _ = load_sampling_networks(settings, machine)
    return ScoreJob(settings, picture, vqgan, gpt, machine)


def score(picture: Image.Image | str | Path, **fields: Any) -> ScoreJob:
    """Score a picture or picture file: ``.bits`` per code, ``.nats`` (1, h, w) and ``.heat_map()`` of the result.

    fields: of :class:`ScoreSettings`.
    """
    loaded = picture if isinstance(picture, Image.Image) else load_picture(picture)
    return finish(create_score_job(loaded, ScoreSettings.parse(fields)))
