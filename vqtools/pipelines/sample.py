"""Puts transformer, window and VQGAN together: what `vqtools.sample` and `vqtools.score` call.

Knows pictures and settings; the walk of the window is the sampler's.
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
from vqtools.core.record import build_record
from vqtools.core.settings import check_size
from vqtools.media.image import flip_picture, format_size, load_picture, resize_and_crop, to_picture, to_tensor
from vqtools.models.gpt import GPT
from vqtools.models.tiled_decoding import decode_any_size
from vqtools.models.vqgan import VQGAN
from vqtools.pipelines.completion import UNDRAWN_COLOUR, GivenPicture, cells_to_mask, half_mask
from vqtools.pipelines.sampling_networks import load_sampling_networks
from vqtools.sampling.condition import check_condition, condition_from_settings, encode_condition, mask_codes
from vqtools.sampling.rerank import rerank
from vqtools.sampling.sampler import Sampler, cell_noise
from vqtools.sampling.settings import SampleSettings
from vqtools.sampling.window import Origin, Window, cells_beside_seam, choose_flips, growth_corners
from vqtools.weights.load import load_clip

WRAP_CODES = 8  # codes beyond each border that the decoder sees of a seamless picture


@dataclass(frozen=True)
class SamplingPass:
    """One walk of the window, over the grid from a corner on."""

    corner: Origin
    known: Tensor  # (h, w), of the whole grid
    rolled: bool = False  # by half the picture's width, so that its seam is in the middle

    def of(self, grid: Tensor) -> Tensor:
        """The part (…, h, w) of the whole grid that is walked over."""
        return grid[..., self.corner[0] :, self.corner[1] :]

    def whole(self, part: Tensor) -> Tensor:
        """The part as the whole grid, 0 outside it."""
        return F.pad(part, (self.corner[1], 0, self.corner[0], 0))


class SampleJob:
    """A picture from a transformer, as a job; ``step()`` draws the codes that can be drawn together.

    Where a picture grows upwards or to the left, and the transformer reads what is known around a cell, it is drawn in
    passes, from what is known outwards. A seamless one gets a last pass, rolled by half its width, which draws a strip
    over the seam anew. Of several grids the first is shown, until all are drawn and the CLIP has chosen.
    """

    activity = ""  # in file names; see :func:`~vqtools.pipelines.paint.save_picture`

    def __init__(
        self, settings: SampleSettings, vqgan: VQGAN, gpt: GPT, machine: Machine, models: Mapping[str, Any]
    ) -> None:
        self.settings = settings.with_seed()
        self.vqgan, self.gpt, self.machine, self.models = vqgan.to(machine.device), gpt, machine, dict(models)
        self.inputs: dict[str, str] = {}
        self.width, self.height = (side // vqgan.f for side in settings.size)
        if settings.grids > 1 and not settings.prompt:
            raise UserError(
                f"grids {settings.grids}: the CLIP chooses among them by a prompt; write one, or set grids 1"
            )
        check_condition(gpt, settings)
        clip = load_clip(settings.clip).to(machine.device) if settings.prompt else None
        self._condition = condition_from_settings(gpt, settings, machine.device, clip)
        self.shown = 0  # which of the grids
        self.start = self._given() if settings.complete else None
        self.condition = self._conditioned() if settings.condition else None
        self.passes = self._planned()
        self._begin(0, None if self.start is None else self.start.codes)
        self._waves = [self.sampler.total, *map(self._length, self.passes[1:])]
        self.total = sum(self._waves)

    @property
    def position(self) -> int:
        """Waves of codes drawn."""
        return sum(self._waves[: self._pass]) + self.sampler.position

    def step(self) -> dict[str, float]:
        """Draw the next codes."""
        if self.sampler.position == self.sampler.total and self._pass + 1 < len(self.passes):
            turn = -(self.width // 2) if self.passes[self._pass + 1].rolled else 0
            self._begin(self._pass + 1, self._upright(self.sampler.codes).roll(turn, 2))
        report = self.sampler.step()
        self._choose()
        return report

    def _choose(self) -> None:
        """Of several grids that are all drawn, show the one that the CLIP likes best."""
        if self.settings.grids > 1 and self.position == self.total:
            clip = load_clip(self.settings.clip).to(self.machine.device)
            pictures = torch.cat([self._decoded(grid[None]) for grid in self._upright(self.sampler.codes)])
            self.shown = int(rerank(clip, pictures, [self.settings.prompt]).argmax())

    def _planned(self) -> list[SamplingPass]:
        nothing = torch.zeros(self.height, self.width, dtype=torch.bool)
        known, side, passes = (
            nothing if self.start is None else self.start.known,
            self.gpt.config.grid,
            list[SamplingPass](),
        )
        cells = known.nonzero().tolist() if self.gpt.config.mask_code >= 0 else []
        for corner in growth_corners(map(tuple, cells), side):
            passes.append(SamplingPass(corner, known))
            known = known.clone()
            passes[-1].of(known)[:] = True
        if self.settings.seamless:
            strip = cells_to_mask(cells_beside_seam(self.height, self.width, side), self.height, self.width)
            passes.append(SamplingPass((0, 0), strip, rolled=True))
        return passes

    def _length(self, walk: SamplingPass) -> int:
        """The waves of a pass."""
        known, config = walk.of(walk.known), self.gpt.config
        window = Window(known.shape[0], known.shape[1], config.grid, config.prefix_length, self.sampler.window.stride)
        return len(window.waves(window.cells(map(tuple, known.nonzero().tolist()))))

    def _begin(self, index: int, codes: Tensor | None) -> None:
        """Go on to a pass; codes (1 or grids, h, w): of the whole grid, rolled as the pass is."""
        self._pass = index
        walk, turn = self.passes[index], -(self.width // 2) if self.passes[index].rolled else 0
        given = None if codes is None else walk.of(codes)
        condition = None if self.condition is None else walk.of(self.condition.roll(turn, 2))
        self.sampler = self._sampler(given, walk.of(walk.known), condition, index)

    def _sampler(self, given: Tensor | None, known: Tensor, spatial: Tensor | None, turn: int) -> Sampler:
        s, config = self.settings, self.gpt.config
        condition = self._condition
        if config.spatial:
            if spatial is None:
                nothing = torch.zeros(1, *known.shape, dtype=torch.int64, device=self.machine.device)
                spatial = mask_codes(self.gpt, nothing if given is None else given, known)
            condition = condition._replace(spatial=spatial)
        noise = cell_noise(s.known_seed, s.grids, config.num_codes, turn)
        try:
            return Sampler(
                self.gpt, known.shape[0], known.shape[1], condition.expand(s.grids), noise=noise,
                guidance=s.guidance, given=given, known=known,
                temperature=s.temperature, top_k=s.top_k, top_p=s.top_p, stride=(s.stride, s.stride),
                memory=s.memory * 1e9,
            )  # fmt: skip
        except ValueError as error:
            raise UserError(str(error)) from None

    def _given(self) -> GivenPicture:
        """The given picture on a canvas of the wanted size, turned so that what is missing comes last."""
        s, f = self.settings, self.vqgan.f
        picture = self._load("complete", s.complete)
        if s.mask:
            mask = self._load("mask", s.mask)
            if mask.size != picture.size:
                raise UserError(f"mask {format_size(mask)}: must be of the picture's size, {format_size(picture)}")
            holes = np.asarray(resize_and_crop(mask, s.size).convert("L")).reshape(self.height, f, self.width, f)
            canvas, known = resize_and_crop(picture, s.size), torch.from_numpy(holes.max((1, 3)) < 128)
        elif s.keep == "whole":
            canvas, known = self._placed(picture)
        else:
            canvas, known = resize_and_crop(picture, s.size), half_mask(s.keep, self.height, self.width)
        below, right = choose_flips(
            ((row, column) for row, column in known.nonzero().tolist()), self.height, self.width
        )
        # who reads the picture with its holes learned mirrored pictures too, but none upside down
        flipped = (below and self.gpt.config.mask_code < 0, right)
        with torch.no_grad():
            codes = self.vqgan.encode(to_tensor(flip_picture(canvas, flipped)).to(self.machine.device))
        return GivenPicture(codes, known.flip([axis for axis in (0, 1) if flipped[axis]]), flipped)

    def _conditioned(self) -> Tensor:
        """The codes (1, h, w) of the picture to draw from, turned as the given one is."""
        picture = resize_and_crop(self._load("condition", self.settings.condition), self.settings.size)
        flipped = self.start.flipped if self.start else (False, False)
        return encode_condition(flip_picture(picture, flipped), self.vqgan, self.gpt, self.machine.device)

    def _load(self, name: str, path: str) -> Image.Image:
        picture = load_picture(path)
        self.inputs[name] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        return picture

    def _placed(self, picture: Image.Image) -> tuple[Image.Image, Tensor]:
        """The whole picture somewhere on the canvas, on whole codes."""
        s, f = self.settings, self.vqgan.f
        inner = (picture.width // f, picture.height // f)
        room = (self.width - inner[0], self.height - inner[1])
        if min(inner) < 1 or min(room) < 0:
            wanted = f"{s.size[0]}x{s.size[1]}"
            raise UserError(f"a picture of {format_size(picture)} cannot stand whole in {wanted}; choose another size")
        left = {"left": 0, "right": room[0]}.get(s.place, room[0] // 2)
        top = {"top": 0, "bottom": room[1]}.get(s.place, room[1] // 2)
        canvas = Image.new("RGB", s.size, UNDRAWN_COLOUR)
        canvas.paste(resize_and_crop(picture, (inner[0] * f, inner[1] * f)), (left * f, top * f))
        known = torch.zeros(self.height, self.width, dtype=torch.bool)
        known[top : top + inner[1], left : left + inner[0]] = True
        return canvas, known

    @property
    def codes(self) -> Tensor:
        """The codes (1, h, w) as they stand, turned and rolled as the picture shall be."""
        return self._upright(self.sampler.codes)[self.shown : self.shown + 1]

    def _upright(self, part: Tensor) -> Tensor:
        """What the sampler has, as the whole grid."""
        walk = self.passes[self._pass]
        return walk.whole(part).roll(self.width // 2 if walk.rolled else 0, -1)

    def picture(self) -> Image.Image:
        """The picture as it stands."""
        picture = to_picture(self._decoded(self.codes))
        return picture if self.start is None else flip_picture(picture, self.start.flipped)

    @torch.no_grad()
    def _decoded(self, codes: Tensor) -> Tensor:
        """Codes (1, h, w) of the whole grid -> (1, 3, H, W) in [-1, 1], not turned."""
        pad = min(WRAP_CODES, self.width) if self.settings.seamless else 0
        if pad:
            codes = torch.cat([codes[:, :, -pad:], codes, codes[:, :, :pad]], 2)
        edge = pad * self.vqgan.f
        return decode_any_size(self.vqgan, codes)[..., edge : edge + self.settings.size[0]].clamp(-1, 1)

    def preview(self) -> Image.Image:
        """The picture as it stands, grey where nothing is drawn yet, with the windows of the codes just drawn."""
        f, picture = self.vqgan.f, self.picture()
        drawn = self._upright(self.sampler.drawn)
        outline = Image.new("L", picture.size)
        if 0 < self.sampler.position < self.sampler.total:
            pen, side = ImageDraw.Draw(outline), self.gpt.config.grid
            row, column = self.passes[self._pass].corner
            for cell in self.sampler.waves[self.sampler.position - 1]:
                top, left = self.sampler.window.origin(*cell)
                top, left = top + row, left + column
                box = (left * f, top * f, (left + side) * f - 1, (top + side) * f - 1)
                pen.rectangle(box, outline=255, width=max(1, f // 4))
        empty = Image.fromarray((~drawn).numpy().astype(np.uint8) * 255).resize(picture.size, Image.Resampling.NEAREST)
        if self.start is not None:
            empty, outline = (flip_picture(one, self.start.flipped) for one in (empty, outline))
        picture.paste(UNDRAWN_COLOUR, mask=empty)
        picture.paste((255, 255, 255), mask=outline)
        return picture

    def record(self) -> dict[str, Any]:
        """All that the same picture can be made from again, for the PNG."""
        return build_record(self, activity="sample", inputs=self.inputs)

    def state_dict(self) -> dict[str, Any]:
        return {"pass": self._pass, "sampler": self.sampler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of a drawing with the same settings."""
        walk = self.passes[state["pass"]]
        codes = state["sampler"]["codes"][:, :, : self.width - walk.corner[1]].to(self.machine.device)
        self._begin(state["pass"], walk.whole(codes))
        self.sampler.load_state_dict(state["sampler"])
        self.shown = 0
        self._choose()


def create_sample_job(settings: SampleSettings, *, threads: int | None = None) -> SampleJob:
    """A drawing ready to be stepped, its networks found by the settings' names."""
    machine = choose_machine(precision=settings.precision, threads=threads)
    vqgan, gpt, models = load_sampling_networks(settings, machine)
    check_size(settings.size, vqgan.f)
    return SampleJob(settings, vqgan, gpt, machine, models)


def sample(prompt: str = "", **fields: Any) -> Image.Image:
    """A picture from a transformer; every field of SampleSettings is a keyword. Its record is in ``picture.info``."""
    job = create_sample_job(SampleSettings.parse({"prompt": prompt, **fields}).quick())
    while job.position < job.total:
        job.step()
    picture = job.picture()
    picture.info["vqtools"] = job.record()
    return picture
