"""Paint: optimise latents, step by step, until CLIP sees the prompts in the decoded picture (VQGAN-CLIP).

Crowson et al. 2022, arXiv 2204.08583. Networks are arguments. Knows nothing about files, user interfaces or where the
initial latents come from; of undo and edit logs it knows only that its state is complete.

Shapes: c dimensions of a latent, h and w its grid, H = h·f and W = w·f the picture's sides in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vqtools.core.device import Machine, choose_machine
from vqtools.core.errors import UserError
from vqtools.core.settings import check_size
from vqtools.media.image import load_picture, to_picture
from vqtools.models.vqgan import VQGAN
from vqtools.painting.clip_loss import clamp_with_grad
from vqtools.painting.image_losses import image_losses_and_gradient
from vqtools.painting.masks import Mask, covered_cells, masks_from_state, masks_to_state, set_mask
from vqtools.painting.memory_plan import is_out_of_memory, out_of_memory_message, reduce_memory, release_memory
from vqtools.painting.objective import ClipObjective, loss_scale
from vqtools.painting.optimisers import create_optimiser, load_optimiser_state, optimiser_state, reset_cells
from vqtools.painting.prior import CodeLikelihood, loss_and_gradient
from vqtools.painting.prompt_embeddings import (
    CLIPLike,
    LoadPicture,
    PromptEmbeddings,
    check_prompt_index,
    embed_prompts,
)
from vqtools.painting.renderers import Renderer, apply_symmetry, create_renderer
from vqtools.painting.settings import PaintSettings

if TYPE_CHECKING:
    from PIL import Image


class Painter:
    """Latents under optimisation: each :meth:`step` moves them a little towards the prompts.

    settings: may be changed or replaced between steps. The size and the networks' names are read at the start only.
    vqgan: is put in eval mode and frozen.
    clips: each scores cutouts at its own input size at every step. clip_weights: their weights in the loss, equal by
        default; only their ratios count.
    start: initial latents (1, c, h, w), also the target of ``init_weight``; random codes by default.
    likelihood: of codes, for the settings' ``prior``; used only where that is above 0.
    load: opens the pictures that settings name.

    ``notes``: in words, what the painter changed by itself. ``masks``: in force, by "prompt 0", … and "protect".
    """

    def __init__(
        self,
        settings: PaintSettings,
        vqgan: VQGAN,
        clips: Sequence[CLIPLike],
        *,
        clip_weights: Sequence[float] | None = None,
        start: Tensor | None = None,
        likelihood: CodeLikelihood | None = None,
        load: LoadPicture = load_picture,
        machine: Machine | None = None,
    ) -> None:
        self.settings = settings.with_seed()
        self.machine = machine or choose_machine(precision=None if settings.precision == "auto" else settings.precision)
        device = self.machine.device
        self.layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
        self.vqgan = vqgan.to(device).to(memory_format=self.layout).eval().requires_grad_(False)
        self.clips = [clip.to(device) if isinstance(clip, nn.Module) else clip for clip in clips]
        weights = [1.0] * len(clips) if clip_weights is None else clip_weights
        self.clip_weights = [weight / sum(weights) for weight in weights]
        self.load, self.likelihood = load, likelihood
        self.notes: list[str] = []
        self.masks: dict[str, Mask] = {}
        # all random numbers of this painting come from here, and nothing else draws from it
        self.generator = torch.Generator().manual_seed(self.settings.known_seed)
        self.objective = ClipObjective(self.clips, self.clip_weights, self.machine, self.generator)
        self.position = 0
        self._renderer: tuple[Any, Renderer] | None = None
        self._prompt_embeddings: PromptEmbeddings | None = None
        self._init_latents(start)

    def _init_latents(self, start: Tensor | None) -> None:
        renderer = self.renderer
        check_size(self.settings.size, renderer.f)
        self.grid = (self.settings.size[1] // renderer.f, self.settings.size[0] // renderer.f)
        if start is None:
            start = renderer.random(*self.grid, self.generator)
        expected = (1, renderer.channels, *self.grid)
        if tuple(start.shape) != expected:
            raise ValueError(f"start of shape {tuple(start.shape)}: this size and VQGAN need {expected}")
        self.z = start.detach().to(self.machine.device, torch.float32, copy=True, memory_format=self.layout)
        self.z.requires_grad_()
        self.start = self.z.detach().clone()
        self.z_ema = self.z.detach().clone()  # what is shown
        self._optimiser = (self.settings.optimiser, create_optimiser(self.settings.optimiser, self.z))

    @property
    def optimiser(self) -> torch.optim.Optimizer:
        """The optimiser that the settings name; it starts without a state when the name changes."""
        if self._optimiser[0] != self.settings.optimiser:
            self._optimiser = (self.settings.optimiser, create_optimiser(self.settings.optimiser, self.z))
        return self._optimiser[1]

    @property
    def renderer(self) -> Renderer:
        """Decodes latents to a picture under the current settings; made anew when they change."""
        s = self.settings
        key = (s.drawer, s.style_image, s.seamless, s.checkpoint == "on", s.compile)
        if self._renderer is None or self._renderer[0] != key:
            self._renderer = (key, create_renderer(s, self.vqgan, self.machine, self.load))
        return self._renderer[1]

    @property
    def total(self) -> int:
        """Steps in all."""
        return self.settings.iterations

    def step(self) -> dict[str, float]:
        """One step of gradient descent; returns the loss and its parts by name.

        A step that fails (out of memory, loss not finite) leaves everything as it was; tried again, it draws the same
        random numbers. When memory runs out, the step is repeated with smaller groups of cutouts, then with gradient
        checkpointing, and ``notes`` says so; UserError if that is not enough.
        """
        generator_state, settings, notes = self.generator.get_state(), self.settings, []
        while True:
            try:
                scalars, gradient = self.gradient()
                _check_finite(self, scalars["loss"], gradient)
                break
            except BaseException as error:
                self.generator.set_state(generator_state)
                reduced = reduce_memory(self.settings, self.position) if is_out_of_memory(error) else None
                if reduced is None:
                    self.settings = settings
                    if is_out_of_memory(error):
                        raise UserError(out_of_memory_message(settings, self.position)) from None
                    raise
            self.settings, note = reduced
            notes.append(note)
            release_memory(self.machine)  # outside the handler: there, the error keeps the failed step's tensors alive
        self.notes += notes
        self._update_latents(gradient)
        return scalars

    def gradient(self) -> tuple[dict[str, float], Tensor]:
        """Losses by name, and the gradient of their sum on the latents (1, c, h, w), for newly drawn cutouts.

        In two stages: the losses' gradient on the decoded picture is summed first, then it goes once through the
        decoder, so memory does not grow with the number of cutouts.
        """
        scale = loss_scale(self.machine)
        with torch.enable_grad():
            picture = clamp_with_grad(self.decode(self.z), 0, 1)
        # detached after the clamp, not before: its mask depends on the gradient's sign and must see the whole sum
        losses, picture_gradient = self._clip_losses(picture.detach())
        scalars = dict(zip(self.prompt_embeddings().names, losses.tolist(), strict=True))
        image_losses, image_gradient = image_losses_and_gradient(picture, self.settings)
        if image_gradient is not None:
            picture_gradient += image_gradient * scale
            scalars |= image_losses
        if "protect" in self.masks:
            picture_gradient *= 1 - self._mask_in_pixels(self.masks["protect"])
        (gradient,) = torch.autograd.grad(picture, self.z, picture_gradient)
        if weight := self.init_weight:  # w / 2 · MSE(z, z_init)
            difference = self.z.detach() - self.start
            scalars["init"] = weight / 2 * float(difference.square().mean())
            gradient = gradient.add(difference, alpha=weight * scale / difference.numel())
        if weight := self.settings.prior:
            nll, nll_gradient = loss_and_gradient(self.z, self.renderer, self.likelihood, self.settings.prompt)
            scalars["prior"] = weight * nll
            gradient = gradient.add(nll_gradient, alpha=weight * scale)
        return {"loss": math.fsum(scalars.values()), **scalars}, gradient / scale

    @property
    def init_weight(self) -> float:
        """The settings' init_weight, decayed to the current step: init_weight · init_decay^(position / iterations)."""
        s = self.settings
        return s.init_weight if s.init_decay == 1 else s.init_weight * s.init_decay ** (self.position / s.iterations)

    def _clip_losses(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of each prompt on a picture (1, 3, H, W) in [0, 1], and their sum's scaled gradient on it."""
        return self.objective.losses_and_gradient(picture, self.prompt_embeddings(), self.masks, self.settings)

    @torch.no_grad()
    def _update_latents(self, gradient: Tensor) -> None:
        s = self.settings
        last_quarter = self.position >= 0.75 * s.iterations
        self.optimiser.param_groups[0]["lr"] = s.learning_rate / (10 if last_quarter else 1)
        before = self.z.detach().clone() if "protect" in self.masks else None
        self.z.grad = gradient
        self.optimiser.step()
        self.z.grad = None
        self.z.clamp_(self.renderer.low, self.renderer.high)
        if before is not None:  # an optimiser with momentum moves latents even where the gradient is 0
            self.z.copy_(torch.where(self._mask_in_latents(self.masks["protect"]), before, self.z))
        # the average spans at most a tenth of the steps so far: else a short run would show the mean of all its steps
        decay = min(s.ema, (1 + self.position) / (10 + self.position))
        self.z_ema.lerp_(self.z, 1 - decay)
        self.position += 1

    def set_region(self, index: int, mask: Any) -> None:
        """Confine a prompt, by its index from 0, to a mask (see :meth:`Mask.from_source`); None removes the mask."""
        check_prompt_index(self.settings.prompt, index)
        set_mask(self.masks, f"prompt {index}", mask, self.settings.size)

    @torch.no_grad()
    def protect(self, mask: Any) -> None:
        """Keep the area of a mask unchanged from now on; None removes the mask."""
        set_mask(self.masks, "protect", mask, self.settings.size)
        if mask is not None:  # what is shown, the average, is what stays
            self.z.copy_(torch.where(self._mask_in_latents(self.masks["protect"]), self.z_ema, self.z))

    @torch.no_grad()
    def repaint(self, mask: Any, fresh: bool = True) -> None:
        """Continue inside a mask only: from random codes, or from what is there (``fresh=False``)."""
        area = mask if isinstance(mask, Mask) else Mask.from_source(mask, self.settings.size)
        if fresh:
            random, cells = self.renderer.random(*self.grid, self.generator), self._mask_in_latents(area)
            for latents in (self.z, self.z_ema, self.start):
                latents.copy_(torch.where(cells, random, latents))
            reset_cells(self.optimiser, self.z, cells)
        self.protect(area.complement())

    def _mask_in_pixels(self, mask: Mask) -> Tensor:
        width, height = self.settings.size
        return mask.at_size(height, width).to(self.machine.device)

    def _mask_in_latents(self, mask: Mask) -> Tensor:
        return covered_cells(self._mask_in_pixels(mask), *self.grid)

    @torch.no_grad()
    def image(self) -> Tensor:
        """The current picture (3, H, W) in [-1, 1], on the CPU: decoded from the moving average of the latents."""
        return self.decode(self.z_ema)[0].mul(2).sub(1).clamp(-1, 1).cpu()

    def preview(self) -> Image.Image:
        """The current picture."""
        return to_picture(self.image())

    picture = preview

    def record(self) -> dict[str, Any]:
        """What the same picture can be made from again, with the same networks."""
        return {"settings": self.settings.model_dump(mode="json"), "position": self.position, "total": self.total}

    def state_dict(self) -> dict[str, Any]:
        """All that the next steps depend on, except for the settings and the networks."""
        return {
            "position": self.position,
            "latents": _cpu_copy(self.z),
            "start": _cpu_copy(self.start),
            "average": _cpu_copy(self.z_ema),
            "optimiser": self._optimiser[0],
            "adam": optimiser_state(self._optimiser[1], self.z),
            "generator": self.generator.get_state(),
            "masks": masks_to_state(self.masks),
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of :meth:`state_dict`, with the same bits."""
        if state["latents"].shape != self.z.shape:
            raise UserError(
                f"a state with latents {tuple(state['latents'].shape)} does not fit this painting's"
                f" {tuple(self.z.shape)}: continue with the size and the VQGAN it was made with"
            )
        self.position = int(state["position"])
        self.z.copy_(state["latents"])
        self.start.copy_(state["start"])
        self.z_ema.copy_(state["average"])
        self._optimiser = (state["optimiser"], create_optimiser(state["optimiser"], self.z))
        load_optimiser_state(self._optimiser[1], self.z, state["adam"])
        self.generator.set_state(state["generator"])
        self.masks = masks_from_state(state["masks"])

    def prompt_embeddings(self) -> PromptEmbeddings:
        """The prompts' embeddings, weights and stops; computed again when the prompt changes."""
        if self._prompt_embeddings is None or self._prompt_embeddings.prompt != self.settings.prompt:
            self._prompt_embeddings = embed_prompts(self.settings.prompt, self.clips, self.machine.device, self.load)
        return self._prompt_embeddings

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (1, c, h, w) to a picture (1, 3, H, W) in about [0, 1]; gradients pass through the codes."""
        return apply_symmetry(self.renderer.decode(latents), self.settings.symmetry)


def _check_finite(painter: Painter, loss: float, gradient: Tensor) -> None:
    if not (math.isfinite(loss) and bool(gradient.isfinite().all())):
        raise UserError(
            f"the loss became {loss:g} at step {painter.position + 1}, its gradient"
            f" {float(gradient.abs().max()):g}: lower learning_rate ({painter.settings.learning_rate:g}) or the"
            f" prompts' weights, or use precision fp32 (now {painter.machine.precision}); the picture is kept"
        )


def _cpu_copy(tensor: Tensor) -> Tensor:
    """A copy on the CPU that later steps leave alone."""
    return tensor.detach().to("cpu", copy=True).contiguous()
