"""A painting as a job: candidates drawn by the transformer, CLIP's choice among them, then guidance.

Networks are arguments. Knows the sampler and the painter; nothing about names and files of networks, edit logs or
flags.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vqtools.core.device import Machine
from vqtools.core.errors import UserError
from vqtools.core.record import build_record
from vqtools.media.image import contact_sheet, resize_and_crop, resize_and_pad, to_picture, to_tensor
from vqtools.models.clip import CLIP
from vqtools.models.gpt import GPT, pack_linear_layers
from vqtools.models.vqgan import VQGAN
from vqtools.painting.image_inputs import ImageInputs
from vqtools.painting.init_images import random_gradient_image, random_noise_image
from vqtools.painting.masks import Mask, masks_from_state, masks_to_state, set_mask
from vqtools.painting.memory_plan import MemoryPlan, apply_plan, plan_memory
from vqtools.painting.painter import Painter
from vqtools.painting.parsers import Box, parse_area, parse_regions
from vqtools.painting.prior import CodeLikelihood
from vqtools.painting.prompt_embeddings import check_prompt_index
from vqtools.painting.prompts import first_attracting_text, parse_prompts
from vqtools.painting.settings import PaintSettings
from vqtools.sampling.condition import caption_condition
from vqtools.sampling.rerank import rerank
from vqtools.sampling.sampler import Sampler, gumbel

StartTransform = Callable[[Image.Image | None], Image.Image | None]
"""Replaces the initial image; None, as argument or result, stands for random codes."""


class PaintJob:
    """A picture of a prompt: candidates drawn by a transformer, the best of them chosen by CLIP, then guidance.

    settings: may be changed between steps, like a Painter's; an open seed is drawn.
    clips: with their weights in the loss. The first one chooses among the candidates.
    gpt: draws the candidates; None to start from the init image, a generated image or random codes.
    models: for the record; the prior's transformer is added to it when it is loaded.
    inputs: the pictures that settings name.
    likelihood: of codes, for the settings' ``prior``.
    transform_start: is applied to the initial image before guidance starts, after the best candidate is chosen.

    ``plan`` is the memory plan of the guidance, None before it starts. ``notes`` are for users.
    """

    def __init__(
        self,
        settings: PaintSettings,
        vqgan: VQGAN,
        clips: Mapping[CLIP, float],
        gpt: GPT | None,
        machine: Machine,
        models: dict[str, Any],
        inputs: ImageInputs | None = None,
        likelihood: CodeLikelihood | None = None,
        transform_start: StartTransform | None = None,
    ) -> None:
        self._settings = settings.with_seed()
        self.vqgan, self.gpt, self.machine = vqgan, gpt, machine
        self.models = models  # not a copy: a transformer that is loaded during the run is added to it
        self.clips, self.clip = dict(clips), next(iter(clips))
        self.inputs, self.likelihood = inputs or ImageInputs(), likelihood
        self.transform_start = transform_start
        self.notes: list[str] = []
        self.plan: MemoryPlan | None = None
        self._masks: dict[str, Mask] = {}  # shared with the painter once there is one
        self.sampler: Sampler | None = None
        self.painter: Painter | None = None
        for network in (vqgan, *clips, gpt):
            if network is not None:
                network.to(machine.device)
        for index, area in parse_regions(settings.regions).items():
            self.set_region(index, self._mask_source(area))
        if settings.protect.strip():
            self.protect(self._mask_source(parse_area(settings.protect)))
        if settings.init_image:
            self._start_guidance(resize_and_crop(self.inputs.picture(settings.init_image), settings.size))
        elif gpt is not None:
            self.sampler = self._create_sampler(gpt)
        else:
            self._start_guidance(_generate_start(self._settings))

    @property
    def settings(self) -> PaintSettings:
        """The current settings, with the seed that was drawn."""
        return self.painter.settings if self.painter else self._settings

    @settings.setter
    def settings(self, settings: PaintSettings) -> None:
        self._settings = settings
        if self.painter:
            self.painter.settings = settings

    def _mask_source(self, area: Box | str) -> Any:
        """An area of the settings, a box or a file name, as a source of :meth:`Mask.from_source`."""
        if isinstance(area, str):
            return self.inputs.picture(area)
        width, height = self.settings.size
        return area[0] * width, area[1] * height, area[2] * width, area[3] * height

    def set_region(self, index: int, mask: Any) -> None:
        """See :meth:`Painter.set_region`; before guidance, it takes effect when guidance starts."""
        check_prompt_index(self.settings.prompt, index)
        set_mask(self._masks, f"prompt {index}", mask, self.settings.size)

    def protect(self, mask: Any) -> None:
        """See :meth:`Painter.protect`; before guidance, it takes effect when guidance starts."""
        set_mask(self._masks, "protect", mask, self.settings.size)
        if self.painter:
            self.painter.protect(self._masks.get("protect"))

    def repaint(self, mask: Any, fresh: bool = True) -> None:
        """See :meth:`Painter.repaint`; UserError before guidance."""
        if self.painter is None:
            raise UserError("the transformer is still drawing the start; repaint when guidance has started")
        self.painter.repaint(mask, fresh)
        self._masks = self.painter.masks

    @property
    def masks(self) -> dict[str, Mask]:
        """The masks in force, by "prompt 0", … and "protect"."""
        return self._masks

    @property
    def position(self) -> int:
        """Steps done: rows of the candidates first, then iterations of guidance."""
        return self._rows_done + (self.painter.position if self.painter else 0)

    @property
    def total(self) -> int:
        """Steps in all."""
        return (self.sampler.window.height if self.sampler else 0) + self.settings.iterations

    @property
    def _rows_done(self) -> int:
        return self.sampler.position // self.sampler.window.width if self.sampler else 0

    def step(self) -> dict[str, float]:
        """Draw one row of all candidates, or do one iteration of guidance; returns scalars by name."""
        if self.painter is None:
            assert self.sampler is not None
            cells = [self.sampler.step() for _ in range(self.sampler.window.width)]
            if self.sampler.position == self.sampler.total:
                self._start_guidance(self.best_candidate())
            return {name: sum(cell[name] for cell in cells) / len(cells) for name in cells[0]}
        return self.painter.step()

    @torch.no_grad()
    def candidates(self) -> Tensor:
        """The transformer's candidates, decoded as far as they are drawn: (grids, 3, H, W) in [-1, 1]."""
        assert self.sampler is not None
        rows = max(self._rows_done, 1)
        return self.vqgan.decode(self.sampler.codes[:, :rows]).clamp(-1, 1)

    @torch.no_grad()
    def best_candidate(self) -> Image.Image:
        """The candidate that the first CLIP ranks highest for the prompts, at the size of the picture."""
        candidates, prompts = self.candidates(), parse_prompts(self.settings.prompt)
        texts, weights = [prompt.text for prompt in prompts], [prompt.weight for prompt in prompts]
        scores = rerank(self.clip, candidates, texts, weights)
        return resize_and_pad(to_picture(candidates[int(scores.argmax())]), self.settings.size)

    def _start_guidance(self, start: Image.Image | None) -> None:
        """Start guidance from an image, or from random codes if there is none."""
        if self.transform_start is not None:
            start = self.transform_start(start)
        requested = self._settings
        self.plan = plan_memory(requested, self.vqgan, list(self.clips), self.machine)
        self._settings = apply_plan(requested, self.plan)
        if self._settings != requested or not self.plan.fits:
            self.notes.append(self.plan.describe())
        self._create_painter(None if start is None else self._encode(start))

    @torch.no_grad()
    def _encode(self, image: Image.Image) -> Tensor:
        """An image as initial latents (1, c, h, w) of the renderer."""
        pixels = to_tensor(image).to(self.machine.device)
        if self._settings.drawer == "pixels":
            return pixels.add(1).div(2)
        return self.vqgan.codes_to_latents(self.vqgan.encode(pixels))

    def _create_painter(self, start: Tensor | None) -> Painter:
        self.painter = Painter(
            self._settings, self.vqgan, list(self.clips), clip_weights=list(self.clips.values()),
            start=start, likelihood=self.likelihood, load=self.inputs.picture, machine=self.machine,
        )  # fmt: skip
        self.painter.notes, self.painter.masks = self.notes, self._masks
        return self.painter

    def _create_sampler(self, gpt: GPT) -> Sampler:
        settings, config = self._settings, gpt.config
        text = first_attracting_text(parse_prompts(settings.prompt), pictures=True)
        n = settings.grids
        # candidates take turns through the styles: the CLIP chooses among them
        styles = torch.tensor(config.candidate_styles or [0])
        styles = styles[torch.arange(n) % len(styles)]
        generator = torch.Generator().manual_seed(settings.known_seed)
        uniform = torch.rand(config.grid, config.grid, n, config.vocab_size, generator=generator)
        return Sampler(
            pack_linear_layers(gpt),
            config.grid,
            config.grid,
            caption_condition(gpt, self.clip, [text], styles),
            noise=lambda row, column: gumbel(uniform[row, column]),
            guidance=settings.guidance,
            top_p=settings.top_p,
        )

    def preview(self) -> Image.Image:
        """The picture in its current state; before guidance, the candidates side by side."""
        if self.painter:
            return self.painter.preview()
        return contact_sheet([to_picture(candidate) for candidate in self.candidates()])

    def picture(self) -> Image.Image:
        """The picture in its current state; before guidance, the best candidate."""
        return self.painter.preview() if self.painter else self.best_candidate()

    def record(self) -> dict[str, Any]:
        """What the same picture can be made from again, for the PNG."""
        return build_record(self, **self.inputs.record())

    def state_dict(self) -> dict[str, Any]:
        """All that the next steps depend on, except for settings and networks."""
        return {
            "sampler": self.sampler.state_dict() if self.sampler else None,
            "painter": self.painter.state_dict() if self.painter else None,
            "masks": masks_to_state(self._masks),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of a painting with the same settings."""
        if self.sampler and state["sampler"]:
            self.sampler.load_state_dict(state["sampler"])
        if state["painter"]:
            painter = self.painter or self._create_painter(state["painter"]["start"])
            painter.load_state_dict(state["painter"])
            self._masks = painter.masks
        elif self.sampler:
            self._settings, self.painter = self.settings, None
            self._masks = masks_from_state(state["masks"])


def _generate_start(settings: PaintSettings) -> Image.Image | None:
    """An initial image of noise or a gradient; None for random codes."""
    generate = {"noise": random_noise_image, "gradient": random_gradient_image}.get(settings.init)
    if generate is None:
        return None
    return to_picture(generate(torch.Generator().manual_seed(settings.known_seed), *settings.size))
