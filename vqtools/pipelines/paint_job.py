"""A picture from a prompt, as a job: grids drawn by the transformer, the CLIP's choice, then guidance.

Networks are handed in. Knows the sampler and the painter; nothing about names and files of networks, journals or flags.
"""

from __future__ import annotations

import secrets
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
from vqtools.painting.masks import Mask
from vqtools.painting.memory_plan import MemoryPlan, apply_plan, plan_memory
from vqtools.painting.painter import Painter
from vqtools.painting.parsers import parse_area, parse_regions
from vqtools.painting.prior import CodeLikelihood
from vqtools.painting.prompt_embeddings import check_prompt_index
from vqtools.painting.prompts import parse_prompts
from vqtools.painting.settings import PaintSettings
from vqtools.sampling.condition import caption_condition
from vqtools.sampling.rerank import rerank
from vqtools.sampling.sampler import Sampler, gumbel

StartTransform = Callable[[Image.Image | None], Image.Image | None]
"""Replaces the initial image; None, as argument or result, stands for random codes."""


class PaintJob:
    """A picture from a prompt, as a job: grids drawn by the transformer, the CLIP's choice, then guidance.

    ``settings`` may be changed between steps, as a Painter's. ``machine`` and the settings' seed are what was
    chosen, also where the settings left it open. The first CLIP chooses; all of them guide, weighted. ``notes`` are for
    people.

    transform_start: is applied to the initial image before guidance starts, once the transformer's candidates are
        drawn and the best one is chosen.
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
        seed = secrets.randbelow(2**32) if settings.seed is None else settings.seed
        self._settings = settings.model_copy(update={"seed": seed})
        self.vqgan, self.gpt, self.machine = vqgan, gpt, machine
        self.models = models  # no copy: a transformer that is only asked for in mid-run is added to it
        self.clips, self.clip = dict(clips), next(iter(clips))
        self.inputs, self.likelihood = inputs or ImageInputs(), likelihood
        self.transform_start = transform_start
        self.notes: list[str] = []
        self.plan: MemoryPlan | None = None  # what the painting needs, from its first step of guidance on
        self._masks: dict[str, Mask] = {}  # until there is a painter to hold them
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
            self._begin(resize_and_crop(self.inputs.picture(settings.init_image), settings.size))
        elif gpt is not None:
            self.sampler = self._sampler(gpt)
        else:
            self._begin(self._generated_start())

    @property
    def settings(self) -> PaintSettings:
        return self.painter.settings if self.painter else self._settings

    @settings.setter
    def settings(self, settings: PaintSettings) -> None:
        self._settings = settings
        if self.painter:
            self.painter.settings = settings

    def _mask_source(self, area: Any) -> Any:
        """What settings say of an area, as :meth:`Mask.from_source` takes it."""
        if isinstance(area, str):
            return self.inputs.picture(area)
        width, height = self.settings.size
        return area[0] * width, area[1] * height, area[2] * width, area[3] * height

    def _generated_start(self) -> Image.Image | None:
        """Noise or a gradient to begin with; None for random codes."""
        make = {"noise": random_noise_image, "gradient": random_gradient_image}.get(self._settings.init)
        if make is None:
            return None
        assert self._settings.seed is not None
        return to_picture(make(torch.Generator().manual_seed(self._settings.seed), *self._settings.size))

    def set_region(self, index: int, mask: Any) -> None:
        """As a Painter's; before there is one, from its first step on."""
        check_prompt_index(self.settings.prompt, index)
        self._mask(f"prompt {index}", mask)

    def protect(self, mask: Any) -> None:
        """As a Painter's; before there is one, from its first step on."""
        self._mask("protect", mask)
        if self.painter:
            self.painter.protect(self._masks.get("protect"))

    def repaint(self, mask: Any, fresh: bool = True) -> None:
        """As a Painter's; UserError where there is nothing to paint over yet."""
        if self.painter is None:
            raise UserError("the transformer is still drawing; paint over the picture once it is there")
        self.painter.repaint(mask, fresh)
        self._masks = self.painter.masks

    def _mask(self, key: str, mask: Any) -> None:
        if mask is None:
            self._masks.pop(key, None)
        else:
            self._masks[key] = mask if isinstance(mask, Mask) else Mask.from_source(mask, self.settings.size)

    @property
    def masks(self) -> dict[str, Mask]:
        """The areas in force, as a Painter's."""
        return self._masks

    @property
    def position(self) -> int:
        """Steps done: rows of the grids first, then iterations of guidance."""
        return self._rows + (self.painter.position if self.painter else 0)

    @property
    def total(self) -> int:
        return (self.sampler.window.height if self.sampler else 0) + self.settings.iterations

    @property
    def _rows(self) -> int:
        """Rows of the grids that are drawn."""
        return self.sampler.position // self.sampler.window.width if self.sampler else 0

    def step(self) -> dict[str, float]:
        """One row of the transformer's grids, or one iteration of guidance."""
        if self.painter is None:
            assert self.sampler is not None
            cells = [self.sampler.step() for _ in range(self.sampler.window.width)]
            if self.sampler.position == self.sampler.total:
                self._begin(self.chosen())
            return {name: sum(cell[name] for cell in cells) / len(cells) for name in cells[0]}
        return self.painter.step()

    @torch.no_grad()
    def drafts(self) -> Tensor:
        """The transformer's grids, decoded as far as they are drawn: (grids, 3, H, W) in [-1, 1]."""
        assert self.sampler is not None
        rows = max(self._rows, 1)
        return self.vqgan.decode(self.sampler.codes[:, :rows]).clamp(-1, 1)

    @torch.no_grad()
    def chosen(self) -> Image.Image:
        """The draft that the CLIP likes best for the prompts, at the size of the picture."""
        drafts, prompts = self.drafts(), parse_prompts(self.settings.prompt)
        scores = rerank(self.clip, drafts, [prompt.text for prompt in prompts], [prompt.weight for prompt in prompts])
        return resize_and_pad(to_picture(drafts[int(scores.argmax())]), self.settings.size)

    def _begin(self, start: Image.Image | None) -> None:
        """Start guidance from an image, or from random codes if there is none."""
        if self.transform_start is not None:
            start = self.transform_start(start)
        wanted = self._settings
        self.plan = plan_memory(wanted, self.vqgan, list(self.clips), self.machine)
        self._settings = apply_plan(wanted, self.plan)
        if self._settings != wanted or not self.plan.fits:
            self.notes.append(self.plan.describe())
        latents = None
        if start is not None:
            latents = to_tensor(start).to(self.machine.device)
            with torch.no_grad():
                if self._settings.drawer == "pixels":
                    latents = latents.add(1).div(2)
                else:
                    latents = self.vqgan.codes_to_latents(self.vqgan.encode(latents))
        self._make_painter(latents)

    def _make_painter(self, start: Tensor | None) -> Painter:
        self.painter = Painter(
            self._settings, self.vqgan, list(self.clips), clip_weights=list(self.clips.values()),
            start=start, likelihood=self.likelihood, load=self.inputs.picture, machine=self.machine,
        )  # fmt: skip
        self.painter.notes, self.painter.masks = self.notes, self._masks
        return self.painter

    def _sampler(self, gpt: GPT) -> Sampler:
        settings, config = self._settings, gpt.config
        texts = [prompt.text for prompt in parse_prompts(settings.prompt) if prompt.weight > 0]
        n = settings.grids
        # candidates take turns through the styles: the CLIP chooses among them
        styles = torch.tensor(config.candidate_styles or [0])
        styles = styles[torch.arange(n) % len(styles)]
        condition = caption_condition(gpt, self.clip, texts[:1] or [""], styles)
        generator = torch.Generator().manual_seed(settings.known_seed)
        uniform = torch.rand(config.grid, config.grid, n, config.vocab_size, generator=generator)
        return Sampler(
            pack_linear_layers(gpt),
            config.grid,
            config.grid,
            condition,
            noise=lambda row, column: gumbel(uniform[row, column]),
            guidance=settings.guidance,
            top_p=settings.top_p,
        )

    def preview(self) -> Image.Image:
        """The picture as it stands; while the transformer draws, its grids side by side."""
        if self.painter:
            return self.painter.preview()
        return contact_sheet([to_picture(draft) for draft in self.drafts()])

    def picture(self) -> Image.Image:
        """The picture as it stands, also where it was stopped before guidance began."""
        return self.painter.preview() if self.painter else self.chosen()

    def record(self) -> dict[str, Any]:
        """All that the same picture can be made from again, for the PNG."""
        return build_record(self, **self.inputs.record())

    def state_dict(self) -> dict[str, Any]:
        return {
            "sampler": self.sampler.state_dict() if self.sampler else None,
            "painter": self.painter.state_dict() if self.painter else None,
            "masks": {key: mask.png.hex() for key, mask in self._masks.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of a painting with the same settings."""
        if self.sampler and state["sampler"]:
            self.sampler.load_state_dict(state["sampler"])
        if state["painter"]:
            painter = self.painter or self._make_painter(state["painter"]["start"])
            painter.load_state_dict(state["painter"])
            self._masks = painter.masks
        elif self.sampler:
            self._settings, self.painter = self.settings, None
            self._masks = {key: Mask.from_png(bytes.fromhex(png)) for key, png in state["masks"].items()}
