"""Sample a picture from a transformer: the command `sample`, notebook 03 and `vqtools.sample`.

Puts transformer, window and VQGAN together. Knows pictures and settings; how the window moves is the sampler's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from vqtools.core.device import Machine, choose_machine
from vqtools.core.errors import UserError
from vqtools.core.job import finish
from vqtools.core.record import build_record
from vqtools.core.settings import check_size
from vqtools.media.image import flip_picture, load_picture, resize_and_crop, to_picture
from vqtools.models.gpt import GPT
from vqtools.models.tiled_decoding import decode_any_size
from vqtools.models.vqgan import VQGAN
from vqtools.pipelines.completion import UNDRAWN_COLOUR, cells_to_mask, encode_given
from vqtools.pipelines.sampling_networks import load_sampling_networks
from vqtools.sampling.condition import check_condition, condition_from_settings, encode_condition, mask_codes
from vqtools.sampling.rerank import rerank
from vqtools.sampling.sampler import Sampler, cell_noise
from vqtools.sampling.settings import SampleSettings
from vqtools.sampling.window import Origin, Window, cells_beside_seam, growth_corners
from vqtools.weights.load import load_clip

WRAP_CODES = 8  # codes beyond each border that the decoder sees of a seamless picture


@dataclass(frozen=True)
class SamplingPass:
    """One pass of the window over the part of the grid below and to the right of a corner."""

    corner: Origin
    known: Tensor  # (h, w), of the whole grid
    rolled: bool = False  # by half the picture's width, so that its seam is in the middle

    def crop(self, grid: Tensor) -> Tensor:
        """The part of a whole grid (…, h, w) that the pass covers."""
        return grid[..., self.corner[0] :, self.corner[1] :]

    def pad(self, part: Tensor) -> Tensor:
        """A part as a whole grid (…, h, w), 0 outside it."""
        return F.pad(part, (self.corner[1], 0, self.corner[0], 0))


class SampleJob:
    """A picture from a transformer, as a job; ``step()`` samples the codes that do not depend on each other.

    A picture that is extended upwards or to the left by a transformer that reads known codes as a condition is
    sampled in several passes, from the known part outwards. A seamless picture gets a last pass, rolled by half its
    width, which resamples a strip over the seam. Of several candidates the first is shown until all are complete and
    the CLIP has selected one.
    """

    activity = ""  # in file names; see :func:`~vqtools.pipelines.paint.save_picture`

    def __init__(
        self, settings: SampleSettings, vqgan: VQGAN, gpt: GPT, machine: Machine, models: Mapping[str, Any]
    ) -> None:
        self.settings = settings.with_seed()
        self.vqgan, self.gpt, self.machine, self.models = vqgan.to(machine.device), gpt, machine, dict(models)
        self.inputs: dict[str, str] = {}  # SHA-256 of the picture files, by setting
        self.width, self.height = (side // vqgan.f for side in settings.size)
        if settings.grids > 1 and not settings.prompt:
            raise UserError(f"candidates {settings.grids}: the CLIP needs a prompt to select one; add one, or set 1")
        check_condition(gpt, settings)
        clip = load_clip(settings.clip).to(machine.device) if settings.prompt else None
        self._condition = condition_from_settings(gpt, settings, machine.device, clip)
        self.selected = 0  # index of the candidate that is shown
        self.given = encode_given(settings, vqgan, gpt, machine.device, self._load) if settings.complete else None
        self.condition = self._encode_condition() if settings.condition else None
        self.passes = self._plan_passes()
        self._start_pass(0, None if self.given is None else self.given.codes)
        self._pass_totals = [self.sampler.total, *map(self._count_waves, self.passes[1:])]
        self.total = sum(self._pass_totals)

    @property
    def position(self) -> int:
        """Waves of codes that are sampled."""
        return sum(self._pass_totals[: self._pass]) + self.sampler.position

    def step(self) -> dict[str, float]:
        """Sample the next wave of codes."""
        if self.sampler.position == self.sampler.total and self._pass + 1 < len(self.passes):
            roll = -(self.width // 2) if self.passes[self._pass + 1].rolled else 0
            self._start_pass(self._pass + 1, self._to_full_grid(self.sampler.codes).roll(roll, 2))
        report = self.sampler.step()
        self._rerank()
        return report

    def _rerank(self) -> None:
        """Once several candidates are complete, select the one that fits the prompt best."""
        if self.settings.grids > 1 and self.position == self.total:
            clip = load_clip(self.settings.clip).to(self.machine.device)
            pictures = torch.cat([self._decode(grid[None]) for grid in self._to_full_grid(self.sampler.codes)])
            self.selected = int(rerank(clip, pictures, [self.settings.prompt]).argmax())

    def _plan_passes(self) -> list[SamplingPass]:
        side, passes = self.gpt.config.grid, list[SamplingPass]()
        known = torch.zeros(self.height, self.width, dtype=torch.bool) if self.given is None else self.given.known
        cells = known.nonzero().tolist() if self.gpt.config.mask_code >= 0 else []
        for corner in growth_corners(map(tuple, cells), side):
            passes.append(SamplingPass(corner, known))
            known = known.clone()
            passes[-1].crop(known)[:] = True
        if self.settings.seamless:
            strip = cells_to_mask(cells_beside_seam(self.height, self.width, side), self.height, self.width)
            passes.append(SamplingPass((0, 0), strip, rolled=True))
        return passes

    def _count_waves(self, sampling_pass: SamplingPass) -> int:
        """Steps of a pass."""
        known, config = sampling_pass.crop(sampling_pass.known), self.gpt.config
        height, width = known.shape
        window = Window(height, width, config.grid, config.prefix_length, self.sampler.window.stride)
        return len(window.waves(window.cells(map(tuple, known.nonzero().tolist()))))

    def _start_pass(self, index: int, codes: Tensor | None) -> None:
        """Make the sampler of a pass. codes: (1 or candidates, h, w) of the whole grid, rolled as the pass is."""
        self._pass = index
        sampling_pass = self.passes[index]
        roll = -(self.width // 2) if sampling_pass.rolled else 0
        given = None if codes is None else sampling_pass.crop(codes)
        spatial = None if self.condition is None else sampling_pass.crop(self.condition.roll(roll, 2))
        self.sampler = self._build_sampler(given, sampling_pass.crop(sampling_pass.known), spatial, index)

    def _build_sampler(self, given: Tensor | None, known: Tensor, spatial: Tensor | None, turn: int) -> Sampler:
        """The sampler of a part of the grid.

        given: (1 or candidates, h, w). known: (h, w). spatial: another picture's codes (1, h, w), if they are read.
        turn: which noise is used, another one in each pass.
        """
        s, config, condition = self.settings, self.gpt.config, self._condition
        height, width = known.shape
        if config.spatial:
            if spatial is None:
                unknown = torch.zeros(1, height, width, dtype=torch.int64, device=self.machine.device)
                spatial = mask_codes(self.gpt, unknown if given is None else given, known)
            condition = condition._replace(spatial=spatial)
        try:
            return Sampler(
                self.gpt,
                height,
                width,
                condition.expand(s.grids),
                noise=cell_noise(s.known_seed, s.grids, config.num_codes, turn),
                guidance=s.guidance,
                given=given,
                known=known,
                temperature=s.temperature,
                top_k=s.top_k,
                top_p=s.top_p,
                stride=(s.stride, s.stride),
                memory=s.memory * 1e9,
            )
        except ValueError as error:
            raise UserError(str(error)) from None

    def _encode_condition(self) -> Tensor:
        """The codes (1, h, w) of the picture that is the condition, flipped as the given one is."""
        picture = resize_and_crop(self._load("condition", self.settings.condition), self.settings.size)
        flipped = self.given.flipped if self.given else (False, False)
        return encode_condition(flip_picture(picture, flipped), self.vqgan, self.gpt, self.machine.device)

    def _load(self, name: str, path: str) -> Image.Image:
        picture = load_picture(path)
        self.inputs[name] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        return picture

    @property
    def codes(self) -> Tensor:
        """The codes (1, h, w) of the selected candidate so far, flipped as ``given`` is."""
        return self._to_full_grid(self.sampler.codes)[self.selected : self.selected + 1]

    def _to_full_grid(self, part: Tensor) -> Tensor:
        """A tensor (…, h, w) of the current pass as one of the whole grid, not rolled."""
        sampling_pass = self.passes[self._pass]
        return sampling_pass.pad(part).roll(self.width // 2 if sampling_pass.rolled else 0, -1)

    def picture(self) -> Image.Image:
        """The picture so far."""
        picture = to_picture(self._decode(self.codes))
        return picture if self.given is None else flip_picture(picture, self.given.flipped)

    @torch.no_grad()
    def _decode(self, codes: Tensor) -> Tensor:
        """Decode codes (1, h, w) of the whole grid to images (1, 3, H, W) in [-1, 1], without flipping them back."""
        pad = min(WRAP_CODES, self.width) if self.settings.seamless else 0
        if pad:
            codes = torch.cat([codes[:, :, -pad:], codes, codes[:, :, :pad]], 2)
        edge = pad * self.vqgan.f
        return decode_any_size(self.vqgan, codes)[..., edge : edge + self.settings.size[0]].clamp(-1, 1)

    def preview(self) -> Image.Image:
        """The picture so far, grey where nothing is sampled yet, with the windows of the last wave outlined."""
        f, picture = self.vqgan.f, self.picture()
        undrawn = (~self._to_full_grid(self.sampler.drawn)).numpy().astype(np.uint8) * 255
        empty = Image.fromarray(undrawn).resize(picture.size, Image.Resampling.NEAREST)
        outline = Image.new("L", picture.size)
        if 0 < self.sampler.position < self.sampler.total:
            pen, side = ImageDraw.Draw(outline), self.gpt.config.grid
            row, column = self.passes[self._pass].corner
            for cell in self.sampler.waves[self.sampler.position - 1]:
                top, left = self.sampler.window.origin(*cell)
                top, left = top + row, left + column
                box = (left * f, top * f, (left + side) * f - 1, (top + side) * f - 1)
                pen.rectangle(box, outline=255, width=max(1, f // 4))
        if self.given is not None:
            empty, outline = flip_picture(empty, self.given.flipped), flip_picture(outline, self.given.flipped)
        picture.paste(UNDRAWN_COLOUR, mask=empty)
        picture.paste((255, 255, 255), mask=outline)
        return picture

    def record(self) -> dict[str, Any]:
        """Everything needed to make the same picture again, for the PNG."""
        return build_record(self, activity="sample", inputs=self.inputs)

    def state_dict(self) -> dict[str, Any]:
        """Everything a job with the same settings needs to continue from here."""
        return {"pass": self._pass, "sampler": self.sampler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of a job with the same settings."""
        sampling_pass = self.passes[state["pass"]]
        codes = state["sampler"]["codes"][:, :, : self.width - sampling_pass.corner[1]].to(self.machine.device)
        self._start_pass(state["pass"], sampling_pass.pad(codes))
        self.sampler.load_state_dict(state["sampler"])
        self.selected = 0
        self._rerank()


def create_sample_job(settings: SampleSettings, *, threads: int | None = None) -> SampleJob:
    """Create a job that samples a picture; networks are loaded by the names in the settings.

    threads: of the CPU. UserError if a network does not exist or does not fit, or if the size is no multiple of f.
    """
    machine = choose_machine(precision=settings.precision, threads=threads)
    vqgan, gpt, models = load_sampling_networks(settings, machine)
    check_size(settings.size, vqgan.f)
    return SampleJob(settings, vqgan, gpt, machine, models)


def sample(prompt: str = "", **fields: Any) -> Image.Image:
    """Sample a picture from a transformer; its record is in ``picture.info["vqtools"]``.

    fields: of :class:`SampleSettings`.
    """
    job = finish(create_sample_job(SampleSettings.parse({"prompt": prompt, **fields}).quick()))
    picture = job.picture()
    picture.info["vqtools"] = job.record()
    return picture
