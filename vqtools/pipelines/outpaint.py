"""Outpainting: what enters a frame at its borders is drawn by the transformer.

Knows images, masks and networks; nothing about the motion that uncovers them.
"""

from __future__ import annotations

import zlib

import torch
import torch.nn.functional as F
from torch import Tensor

from vqtools.animation.camera import Outpainter
from vqtools.animation.settings import AnimateSettings
from vqtools.core.device import choose_machine
from vqtools.core.job import finish
from vqtools.models.gpt import GPT
from vqtools.models.vqgan import VQGAN
from vqtools.painting.prompts import first_attracting_text, parse_prompts
from vqtools.pipelines.sampling_networks import load_sampling_networks
from vqtools.sampling.condition import Condition, check_condition, condition_from_settings, mask_codes
from vqtools.sampling.sampler import Sampler, cell_noise
from vqtools.sampling.settings import SampleSettings
from vqtools.sampling.window import choose_flips
from vqtools.weights.load import load_clip

_MAX_UNKNOWN_FRACTION = 0.001  # of a cell's pixels; a cell with more unknown pixels is drawn


def create_outpainter(settings: AnimateSettings, vqgan: VQGAN) -> Outpainter:
    """Create an outpainter that samples unknown codes from the transformer, given the known part of the image."""
    machine = choose_machine()
    sampling = SampleSettings.parse(
        {name: getattr(settings, name) for name in ("size", "vqgan", "clip", "transformer", "seed")}
    )
    _, gpt, _ = load_sampling_networks(sampling, machine)
    subject = _outpaint_prompt(settings) if gpt.config.text_dim else ""
    prompted = sampling.model_copy(update={"prompt": subject})
    check_condition(gpt, prompted)
    clip = load_clip(sampling.clip).to(machine.device) if subject else None
    condition = condition_from_settings(gpt, prompted, machine.device, clip)

    def outpaint(image: Tensor, mask: Tensor) -> Tensor:
        return _outpaint_picture(image, mask, vqgan, gpt, sampling, condition)

    return outpaint


def _outpaint_prompt(settings: AnimateSettings) -> str:
    """The caption that conditions the transformer: the first text with a positive weight in the first scene."""
    first_scene = settings.prompt.split("^")[0].replace("{}", " ").strip()
    return first_attracting_text(parse_prompts(first_scene or " a picture"), pictures=True)


@torch.no_grad()
def _outpaint_picture(
    image: Tensor, mask: Tensor, vqgan: VQGAN, gpt: GPT, sampling: SampleSettings, condition: Condition
) -> Tensor:
    """Fill an image (1, 3, H, W) in [-1, 1] where a mask (1, 1, H, W) is true.

    The image is flipped so that its known part comes first in the sampling order, as far as possible.
    """
    unknown = F.avg_pool2d(mask.float(), vqgan.f)[0, 0]
    known = unknown < _MAX_UNKNOWN_FRACTION
    flips = choose_flips(map(tuple, known.nonzero().tolist()), *known.shape)
    flipped = [axis for axis, flip in enumerate(flips) if flip]
    known = known.flip(flipped).cpu()
    codes = vqgan.encode(image.flip([axis + 2 for axis in flipped]))
    if gpt.config.spatial:
        condition = condition._replace(spatial=mask_codes(gpt, codes, known))
    stream = zlib.crc32(image.cpu().numpy().tobytes()) & 0xFFFF  # different noise for each frame
    height, width = known.shape
    sampler = Sampler(
        gpt,
        height,
        width,
        condition,
        noise=cell_noise(sampling.known_seed, 1, gpt.config.num_codes, stream),
        guidance=sampling.guidance,
        given=codes,
        known=known,
        top_p=sampling.top_p,
        memory=sampling.memory * 1e9,
    )
    finish(sampler)
    drawn = vqgan.decode(sampler.codes).clamp(-1, 1).flip([axis + 2 for axis in flipped])
    reach = 2 * (vqgan.f // 2) + 1  # the transition lies on the side of the known pixels
    soft = F.avg_pool2d(mask.float(), reach, stride=1, padding=reach // 2, count_include_pad=False)
    return torch.lerp(image, drawn.to(image), torch.where(mask, 1.0, soft).to(image))
