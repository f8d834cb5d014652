"""Paint: draw latents, step by step, to where CLIP sees the prompts.

Crowson et al. 2022, arXiv 2204.08583. Networks are handed in. Knows nothing about files, windows or where a start comes
from; of history and journals it knows that its state is complete.

Shapes: c dimensions of a latent, h and w its grid, H = h·f and W = w·f the picture's sides, p prompts,
d CLIP's embedding.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vqtools.core.device import Machine, choose_machine
from vqtools.core.errors import UserError
from vqtools.core.settings import check_size
from vqtools.media.image import load_picture, to_picture, to_tensor
from vqtools.models.vqgan import VQGAN
from vqtools.painting.clip_loss import clamp_with_grad, prompt_losses
from vqtools.painting.cutouts import apply_cutouts, draw_cutouts
from vqtools.painting.image_losses import compute_image_losses
from vqtools.painting.masks import Mask, bounding_box, covered_cells
from vqtools.painting.memory_plan import is_out_of_memory, out_of_memory_message, reduce_memory, release_memory
from vqtools.painting.optimisers import create_optimiser, load_optimiser_state, optimiser_state, reset_cells
from vqtools.painting.prior import CodeLikelihood, loss_and_gradient
from vqtools.painting.prompt_embeddings import (
    CLIPLike,
    LoadPicture,
    PromptEmbeddings,
    check_prompt_index,
    embed_prompts,
)
from vqtools.painting.renderers import CodeRenderer, PixelRenderer, Renderer, apply_symmetry
from vqtools.painting.settings import PaintSettings

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["CLIPLike", "Painter"]


class Painter:
    """A painting in the making: each :meth:`step` moves the latents a little towards the prompts.

    settings: may be changed, or replaced, between steps; what a new size or other networks would need is read at the
        start alone.
    vqgan: is put in eval mode and frozen.
    clips: all of them look at each step, each at its own size; their shares of the loss are as ``clip_weights``, equal
        without.
    start: latents (1, c, h, w) to begin with, also what ``init_weight`` holds to; random codes without.
    likelihood: of codes, for the settings' ``prior``; asked for only where that is above 0.
    load: opens the pictures that settings name.

    ``notes`` says in words what the painter had to change by itself; ``masks`` are the regions, by prompt and
    "protect".
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
        seed = secrets.randbelow(2**32) if settings.seed is None else settings.seed
        self.settings = settings.model_copy(update={"seed": seed})
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
        self.generator = torch.Generator().manual_seed(seed)  # of this painting alone: nobody else draws from it
        self.position = 0
        self._renderer: tuple[Any, Renderer] | None = None
        self._prompt_embeddings: PromptEmbeddings | None = None
        self._begin(start)

    def _begin(self, start: Tensor | None) -> None:
        drawer, device = self.drawer, self.machine.device
        check_size(self.settings.size, drawer.f)
        self.grid = (self.settings.size[1] // drawer.f, self.settings.size[0] // drawer.f)
        if start is None:
            start = drawer.random(*self.grid, self.generator)
        expected = (1, drawer.channels, *self.grid)
        if tuple(start.shape) != expected:
            raise ValueError(f"start of shape {tuple(start.shape)}: this size and VQGAN need {expected}")
        self.z = start.detach().to(device, torch.float32, copy=True, memory_format=self.layout)
        self.z.requires_grad_()
        self.start = self.z.detach().clone()
        self.average = self.z.detach().clone()
        self._optimiser = (self.settings.optimiser, create_optimiser(self.settings.optimiser, self.z))

    @property
    def optimiser(self) -> torch.optim.Optimizer:
        """The settings' optimiser; a new one begins without a memory."""
        if self._optimiser[0] != self.settings.optimiser:
            self._optimiser = (self.settings.optimiser, create_optimiser(self.settings.optimiser, self.z))
        return self._optimiser[1]

    @property
    def drawer(self) -> Renderer:
        """What makes a picture of the latents under the settings as they stand."""
        s = self.settings
        wanted = (s.drawer, s.style_image, s.seamless, s.checkpoint == "on", s.compile)
        if self._renderer is None or self._renderer[0] != wanted:
            self._renderer = (wanted, self._make_renderer())
        return self._renderer[1]

    def _make_renderer(self) -> Renderer:
        s = self.settings
        if s.drawer == "pixels":
            return PixelRenderer(self.machine)
        codes = None
        if s.style_image:
            picture = self.load(s.style_image)
            scale = min(1.0, 1024 / max(picture.size))
            sides = [max(self.vqgan.f, round(side * scale / self.vqgan.f) * self.vqgan.f) for side in picture.size]
            image = to_tensor(picture.resize((sides[0], sides[1]))).to(self.machine.device)
            with torch.no_grad():
                codes = torch.unique(self.vqgan.encode(image))
        return CodeRenderer(
            self.vqgan, self.machine, codes=codes, seamless=s.seamless, forget=s.checkpoint == "on", compiled=s.compile
        )

    @property
    def total(self) -> int:
        return self.settings.iterations

    def step(self) -> dict[str, float]:
        """One step; returns the loss, that of each prompt and of what else was asked for.

        A step that fails (no memory, no number) has not happened: nothing has moved, and tried again it draws the same.
        Where memory runs out, it is tried again with smaller groups of cutouts, then with a forgetful decoder, and
        ``notes`` says so; UserError where that does not help either.
        """
        draws, wanted, notes = self.generator.get_state(), self.settings, []
        while True:
            try:
                scalars, gradient = self.gradient()
                self._check_finite(scalars, gradient)
                break
            except BaseException as error:
                self.generator.set_state(draws)
                smaller = reduce_memory(self.settings, self.position) if is_out_of_memory(error) else None
                if smaller is None:
                    self.settings = wanted
                    if is_out_of_memory(error):
                        raise UserError(out_of_memory_message(wanted, self.position)) from None
                    raise
            self.settings, note = smaller
            notes.append(note)
            release_memory(self.machine)  # not in the handler, where the error keeps the failed step's tensors alive
        self.notes += notes
        self._update_latents(gradient)
        return scalars

    def _check_finite(self, scalars: dict[str, float], gradient: Tensor) -> None:
        if not (math.isfinite(scalars["loss"]) and bool(gradient.isfinite().all())):
            raise UserError(
                f"the loss became {scalars['loss']:g} at step {self.position + 1}, its gradient"
                f" {float(gradient.abs().max()):g}: lower learning_rate ({self.settings.learning_rate:g}) or the"
                f" prompts' weights, or take precision fp32 ({self.machine.precision} now); the picture is kept"
            )

    def gradient(self) -> tuple[dict[str, float], Tensor]:
        """Losses by name, and the gradient of their sum on the latents (1, c, h, w), for newly drawn cutouts.

        In two stages: CLIP's gradient on the finished picture is summed over groups of cutouts, each forgotten before
        the next; then it goes once through the decoder. So memory does not grow with the number of cutouts.
        """
        with torch.enable_grad():
            picture = clamp_with_grad(self.decode(self.z), 0, 1)
        # cut off after the clamp, not before: its mask looks at the gradient's sign and must see the whole sum
        losses, on_picture = self._look(picture.detach())
        scalars = dict(zip(self.prompt_embeddings().names, losses.tolist(), strict=True))
        with torch.enable_grad():
            seen = picture.detach().requires_grad_()
            asked = compute_image_losses(seen, self.settings)
        if asked:
            on_picture += torch.autograd.grad(sum(asked.values()), seen)[0] * self._loss_scale  # type: ignore[arg-type]
            scalars |= {name: float(value.detach()) for name, value in asked.items()}
        if "protect" in self.masks:
            on_picture *= 1 - self._mask("protect")
        (gradient,) = torch.autograd.grad(picture, self.z, on_picture)
        if weight := self.init_weight:
            away = self.z.detach() - self.start
            scalars["init"] = weight / 2 * float(away.square().mean())
            gradient = gradient.add(away, alpha=weight * self._loss_scale / away.numel())
        if weight := self.settings.prior:
            surprise, pull = loss_and_gradient(self.z, self.drawer, self.likelihood, self.settings.prompt)
            scalars["prior"] = weight * surprise
            gradient = gradient.add(pull, alpha=weight * self._loss_scale)
        return {"loss": math.fsum(scalars.values()), **scalars}, gradient / self._loss_scale

    @property
    def init_weight(self) -> float:
        """The settings' init_weight as far as it has decayed."""
        s = self.settings
        return s.init_weight if s.init_decay == 1 else s.init_weight * s.init_decay ** (self.position / s.iterations)

    def _look(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Loss (p,) of each prompt on a picture (1, 3, H, W) in [0, 1], and their sum's gradient on the picture."""
        wanted = self.prompt_embeddings()
        losses, gradient = torch.zeros_like(wanted.weights), torch.zeros_like(picture)
        shift = self._draw_seam_shift(picture)
        for clip, texts, share in zip(self.clips, wanted.embeddings, self.clip_weights, strict=True):
            for these, mask in self._prompts_by_mask():
                part, on_picture = self._clip_losses_of_prompts(clip, picture, shift, mask, texts, these, share)
                losses[these] += part
                gradient += on_picture
        return losses, gradient

    def _clip_losses_of_prompts(
        self,
        clip: CLIPLike,
        picture: Tensor,
        shift: tuple[int, int],
        mask: Tensor | None,
        texts: Tensor,
        these: list[int],
        share: float,
    ) -> tuple[Tensor, Tensor]:
        """One CLIP's share of the losses of some prompts, over what a mask lets through, and the gradient of it."""
        s, wanted = self.settings, self.prompt_embeddings()
        rows, columns = bounding_box(mask) if mask is not None else (slice(None), slice(None))
        height, width = picture[..., rows, columns].shape[-2:]
        cuts = draw_cutouts(
            self.generator, s.cutouts, height, width, clip.size, s.cut_power, s.augment, s.cut_method
        )  # fmt: skip
        group = s.group or len(cuts)
        losses, gradient = torch.zeros_like(wanted.weights[these]), torch.zeros_like(picture)
        for first in range(0, len(cuts), group):
            with torch.enable_grad():
                seen = picture.detach().requires_grad_()
                shown = seen.roll(shift, (2, 3)) if s.seamless else seen
                if mask is not None:  # what lies around the region is seen, but only the region is told to change
                    shown = torch.lerp(picture, shown, mask)[..., rows, columns]
                views = apply_cutouts(shown, cuts, slice(first, first + group))
                with self._clip_precision():
                    embeddings = clip.embed_image(views)
                part = (len(views) / len(cuts) * share) * prompt_losses(
                    embeddings.float(), texts[these], wanted.weights[these], wanted.stops[these]
                )
                (on_seen,) = torch.autograd.grad(part.sum() * self._loss_scale, seen)
            losses += part.detach()
            gradient += on_seen
        return losses, gradient

    def _prompts_by_mask(self) -> Iterator[tuple[list[int], Tensor | None]]:
        """Prompts that look at the same part of the picture: their indices, and its mask (H, W), None for the whole."""
        count = len(self.prompt_embeddings().names)
        together: dict[Mask | None, list[int]] = {}
        for index in range(count):
            together.setdefault(self.masks.get(f"prompt {index}"), []).append(index)
        for mask, these in together.items():
            yield these, None if mask is None else self._mask_in_pixels(mask)

    def _draw_seam_shift(self, picture: Tensor) -> tuple[int, int]:
        """How far a seamless picture is turned before it is cut, so that its seam is seen as everything else is."""
        # prompts with regions have their places: those must not wander
        if not self.settings.seamless or any(key != "protect" for key in self.masks):
            return (0, 0)
        drawn = torch.rand(2, generator=self.generator)
        return int(drawn[0] * picture.shape[2]), int(drawn[1] * picture.shape[3])

    @torch.no_grad()
    def _update_latents(self, gradient: Tensor) -> None:
        s = self.settings
        last_quarter = self.position >= 0.75 * s.iterations
        self.optimiser.param_groups[0]["lr"] = s.learning_rate / (10 if last_quarter else 1)
        before = self.z.detach().clone() if "protect" in self.masks else None
        self.z.grad = gradient
        self.optimiser.step()
        self.z.grad = None
        self.z.clamp_(self.drawer.low, self.drawer.high)
        if before is not None:  # a moving average in the optimiser would go on even without a gradient
            self.z.copy_(torch.where(self._mask_in_latents(self.masks["protect"]), before, self.z))
        # a memory of at most a tenth of the steps so far: else a short run would show the mean of all its way
        decay = min(s.ema, (1 + self.position) / (10 + self.position))
        self.average.lerp_(self.z, 1 - decay)
        self.position += 1

    def set_region(self, index: int, mask: Any) -> None:
        """Let a prompt, by its index from 0, count only inside a mask (see :meth:`Mask.of`); None lifts it."""
        check_prompt_index(self.settings.prompt, index)
        self._set_mask(f"prompt {index}", mask)

    @torch.no_grad()
    def protect(self, mask: Any) -> None:
        """From now on leave alone what a mask covers; None lifts it."""
        self._set_mask("protect", mask)
        if mask is not None:  # what is shown stays, not what was next
            self.z.copy_(torch.where(self._mask_in_latents(self.masks["protect"]), self.average, self.z))

    @torch.no_grad()
    def repaint(self, mask: Any, fresh: bool = True) -> None:
        """Go on inside a mask alone, from random codes or from what is there (``fresh=False``)."""
        area = mask if isinstance(mask, Mask) else Mask.of(mask, self.settings.size)
        if fresh:
            drawn, cells = self.drawer.random(*self.grid, self.generator), self._mask_in_latents(area)
            for latents in (self.z, self.average, self.start):
                latents.copy_(torch.where(cells, drawn, latents))
            reset_cells(self.optimiser, self.z, cells)
        self.protect(area.complement())

    def _set_mask(self, key: str, mask: Any) -> None:
        if mask is None:
            self.masks.pop(key, None)
        else:
            self.masks[key] = mask if isinstance(mask, Mask) else Mask.of(mask, self.settings.size)

    def _mask(self, key: str) -> Tensor:
        return self._mask_in_pixels(self.masks[key])

    def _mask_in_pixels(self, mask: Mask) -> Tensor:
        width, height = self.settings.size
        return mask.on(height, width).to(self.machine.device)

    def _mask_in_latents(self, mask: Mask) -> Tensor:
        return covered_cells(self._mask_in_pixels(mask), *self.grid)

    @torch.no_grad()
    def image(self) -> Tensor:
        """The picture as it stands (3, H, W) in [-1, 1]: decoded from the latents' running average."""
        return self.decode(self.average)[0].mul(2).sub(1).clamp(-1, 1).cpu()

    def preview(self) -> Image.Image:
        """The picture as it stands."""
        return to_picture(self.image())

    picture = preview

    def record(self) -> dict[str, Any]:
        """What the same picture can be made from again, with the same networks."""
        return {"settings": self.settings.model_dump(mode="json"), "position": self.position, "total": self.total}

    def state_dict(self) -> dict[str, Any]:
        """All that the next steps depend on, beside the settings and the networks."""
        return {
            "position": self.position,
            "latents": _stored(self.z),
            "start": _stored(self.start),
            "average": _stored(self.average),
            "optimiser": self._optimiser[0],
            "adam": optimiser_state(self._optimiser[1], self.z),
            "generator": self.generator.get_state(),
            "masks": {key: mask.png.hex() for key, mask in self.masks.items()},
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where :meth:`state_dict` was taken, with the same bits."""
        if state["latents"].shape != self.z.shape:
            raise UserError(
                f"a state of shape {tuple(state['latents'].shape)} does not fit this painting's {tuple(self.z.shape)}:"
                " go on at the size and with the VQGAN it was made with"
            )
        self.position = int(state["position"])
        self.z.copy_(state["latents"])
        self.start.copy_(state["start"])
        self.average.copy_(state["average"])
        self._optimiser = (state["optimiser"], create_optimiser(state["optimiser"], self.z))
        load_optimiser_state(self._optimiser[1], self.z, state["adam"])
        self.generator.set_state(state["generator"])
        self.masks = {key: Mask.read(bytes.fromhex(png)) for key, png in state["masks"].items()}

    def prompt_embeddings(self) -> PromptEmbeddings:
        """The prompts' embeddings, weights and stops; read again when the prompt has changed."""
        if self._prompt_embeddings is None or self._prompt_embeddings.prompt != self.settings.prompt:
            self._prompt_embeddings = embed_prompts(self.settings.prompt, self.clips, self.machine.device, self.load)
        return self._prompt_embeddings

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (1, c, h, w) to a picture (1, 3, H, W), about [0, 1]; gradients pass straight through the codes."""
        return apply_symmetry(self.drawer.decode(latents), self.settings.symmetry)

    def _clip_precision(self) -> AbstractContextManager[Any]:
        if self.machine.device.type == "cpu" and self.settings.clip_precision == "auto":
            return nullcontext()
        return self.machine.autocast_except_strided_convs()

    @property
    def _loss_scale(self) -> float:
        """Lifts gradients out of fp16's smallest numbers; a power of two, and 1 elsewhere, so it rounds nothing."""
        return 2.0**12 if self.machine.precision == "fp16" else 1.0


def _stored(tensor: Tensor) -> Tensor:
    """A copy on the CPU that later steps leave alone."""
    return tensor.detach().to("cpu", copy=True).contiguous()
