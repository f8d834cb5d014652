"""TODO: what this module is.

Split from vqtools.filming.
"""

from __future__ import annotations

import zlib

import torch
import torch.nn.functional as F
from torch import Tensor

from vqtools.animation.camera import Outpainter
from vqtools.animation.settings import AnimateSettings
from vqtools.core.device import choose_machine
from vqtools.models.gpt import GPT
from vqtools.models.vqgan import VQGAN
from vqtools.painting.prompts import parse_prompts
from vqtools.pipelines.sampling_networks import load_sampling_networks
from vqtools.sampling.condition import Condition, check_condition, condition_from_settings, mask_codes
from vqtools.sampling.sampler import Sampler, cell_noise
from vqtools.sampling.settings import SampleSettings
from vqtools.sampling.window import choose_flips
from vqtools.weights.load import load_clip

_MAX_UNKNOWN_FRACTION = 0.001  # of a cell's pixels: more, and it is drawn


def create_outpainter(settings: AnimateSettings, vqgan: VQGAN) -> Outpainter:
    """What comes in at the sides, drawn by the transformer after the known part of the picture, code by code."""
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
        return _outpaint_codes(image, mask, vqgan, gpt, sampling, condition)

    return outpaint


def _outpaint_prompt(settings: AnimateSettings) -> str:
    """What the transformer is told that the picture shows: the first scene's first text that is not repelled."""
    asked = parse_prompts(settings.prompt.split("^")[0].replace("{}", " ").strip() or " a picture")
    return next((one.text for one in asked if one.weight > 0), "")


@torch.no_grad()
def _outpaint_codes(
    image: Tensor, mask: Tensor, vqgan: VQGAN, gpt: GPT, sampling: SampleSettings, condition: Condition
) -> Tensor:
    """A picture (1, 3, H, W) whose unknown pixels, where the mask (1, 1, H, W) is true, are drawn."""
    unknown = F.avg_pool2d(mask.float(), vqgan.f)[0, 0]
    known = unknown < _MAX_UNKNOWN_FRACTION
    turned = [
        axis for axis, flip in enumerate(choose_flips(map(tuple, known.nonzero().tolist()), *known.shape)) if flip
    ]
    known = known.flip(turned).cpu()
    codes = vqgan.encode(image.flip([axis + 2 for axis in turned]))
    if gpt.config.spatial:
        condition = condition._replace(spatial=mask_codes(gpt, codes, known))
    turn = zlib.crc32(image.cpu().numpy().tobytes()) & 0xFFFF  # another frame, another draw
    height, width = known.shape
    sampler = Sampler(
        gpt, height, width, condition, noise=cell_noise(sampling.seed or 0, 1, gpt.config.num_codes, turn),
        guidance=sampling.guidance, given=codes, known=known, top_p=sampling.top_p,
        memory=sampling.memory * 1e9,
    )  # fmt: skip
    while sampler.position < sampler.total:
        sampler.step()
    drawn = vqgan.decode(sampler.codes).clamp(-1, 1).flip([axis + 2 for axis in turned])
    reach = 2 * (vqgan.f // 2) + 1  # a soft passage, on the side of what is known
    soft = F.avg_pool2d(mask.float(), reach, stride=1, padding=reach // 2, count_include_pad=False)
    return torch.lerp(image, drawn.to(image), torch.where(mask, 1.0, soft).to(image))
