"""Paint: draw a VQGAN's latents, step by step, to where CLIP sees the prompts.

Crowson et al. 2022, arXiv 2204.08583. Networks are handed in. Knows nothing about files, windows or where a start comes
from.

Shapes: c dimensions of a code, h and w the grid of codes, H = h·f and W = w·f the picture's sides, p prompts,
d CLIP's embedding.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from vqtools.device import Machine, choose
from vqtools.models.vqgan import VQGAN
from vqtools.painting import cutouts, prompts
from vqtools.painting.guidance import clamp_with_grad, prompt_losses
from vqtools.painting.settings import PaintSettings
from vqtools.settings import UserError

if TYPE_CHECKING:
    from PIL import Image


class PictureJudge(Protocol):
    """A CLIP, as far as painting needs one."""

    @property
    def size(self) -> int:
        """Side of the pictures it sees, in pixels."""

    def embed_text(self, texts: list[str]) -> Tensor:
        """Unit embeddings (n, d) of texts."""

    def embed_image(self, images: Tensor) -> Tensor:
        """Unit embeddings (n, d) of images (n, 3, size, size) in [0, 1]; differentiable."""


class Targets(NamedTuple):
    """The prompts as numbers."""

    prompt: str  # what they were read from
    names: list[str]
    weights: Tensor  # (p,)
    stops: Tensor  # (p,)
    texts: list[Tensor]  # one (p, d) for each CLIP


class Painter:
    """A painting in the making: each :meth:`step` moves the latents a little towards the prompts.

    settings: may be changed, or replaced, between steps; what a new size or other networks would need is read at the
        start alone.
    vqgan: is put in eval mode and frozen.
    clips: all of them look at each step, with equal weight.
    start: latents (1, c, h, w) to begin with, also what ``init_weight`` holds to; random codes without.
    """

    def __init__(
        self,
        settings: PaintSettings,
        vqgan: VQGAN,
        clips: Sequence[PictureJudge],
        *,
        start: Tensor | None = None,
        machine: Machine | None = None,
    ) -> None:
        seed = secrets.randbelow(2**32) if settings.seed is None else settings.seed
        self.settings = settings.model_copy(update={"seed": seed})
        self.machine = machine or choose(precision=None if settings.precision == "auto" else settings.precision)
        device = self.machine.device
        # channels last suits a GPU's half precision; on a CPU the group norms lose more by it than convolutions gain
        self.layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
        self.vqgan = vqgan.to(device).to(memory_format=self.layout).eval().requires_grad_(False)
        self.clips = [clip.to(device) if isinstance(clip, nn.Module) else clip for clip in clips]
        self.generator = torch.Generator().manual_seed(seed)  # of this painting alone: nobody else draws from it
        self.position = 0
        grid = _grid(settings.size, vqgan.f)
        if start is None:
            codes = torch.randint(len(vqgan.codebook), (1, *grid), generator=self.generator)
            start = vqgan.latents_of(codes.to(device))
        expected = (1, vqgan.codebook.shape[1], *grid)
        if tuple(start.shape) != expected:
            raise ValueError(f"start of shape {tuple(start.shape)}: this size and VQGAN need {expected}")
        self.z = start.detach().to(device, torch.float32, copy=True, memory_format=self.layout)
        self.z.requires_grad_()
        self.start = self.z.detach().clone()
        self.average = self.z.detach().clone()
        self.adam = torch.optim.Adam([self.z], foreach=False)
        codebook = vqgan.codebook.detach().float()
        self._low, self._high = (bound.view(1, -1, 1, 1) for bound in (codebook.amin(0), codebook.amax(0)))
        self._targets: Targets | None = None

    @property
    def total(self) -> int:
        return self.settings.iterations

    def step(self) -> dict[str, float]:
        """One step; returns the loss, that of each prompt, and the start's pull where there is one.

        A step that fails (no memory, no number) has not happened: nothing has moved, and tried again it draws the same.
        """
        before = self.generator.get_state()
        try:
            scalars, gradient = self.gradient()
            if not (math.isfinite(scalars["loss"]) and bool(gradient.isfinite().all())):
                raise UserError(
                    f"the loss became {scalars['loss']:g} at step {self.position + 1}, its gradient"
                    f" {float(gradient.abs().max()):g}: lower learning_rate ({self.settings.learning_rate:g}) or the"
                    f" prompts' weights, or take precision fp32 ({self.machine.precision} now); the picture is kept"
                )
        except BaseException:
            self.generator.set_state(before)
            raise
        self._move(gradient)
        return scalars

    def gradient(self) -> tuple[dict[str, float], Tensor]:
        """Losses by name, and the gradient of their sum on the latents (1, c, h, w), for newly drawn cutouts.

        In two stages: CLIP's gradient on the finished picture is summed over groups of cutouts, each forgotten before
        the next; then it goes once through the decoder. So memory does not grow with the number of cutouts.
        """
        with torch.enable_grad():
            picture = clamp_with_grad(self._decode(self.z), 0, 1)
        # cut off after the clamp, not before: its mask looks at the gradient's sign and must see the whole sum
        losses, on_picture = self._look(picture.detach())
        (gradient,) = torch.autograd.grad(picture, self.z, on_picture)
        scalars = dict(zip(self.targets().names, losses.tolist(), strict=True))
        if weight := self.settings.init_weight:
            away = self.z.detach() - self.start
            scalars["init"] = weight / 2 * float(away.square().mean())
            gradient = gradient.add(away, alpha=weight * self._loss_scale / away.numel())
        return {"loss": math.fsum(scalars.values()), **scalars}, gradient / self._loss_scale

    def _look(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Loss (p,) of each prompt on a picture (1, 3, H, W) in [0, 1], and their sum's gradient on the picture."""
        s, targets = self.settings, self.targets()
        losses, gradient = torch.zeros_like(targets.weights), torch.zeros_like(picture)
        for clip, texts in zip(self.clips, targets.texts, strict=True):
            height, width = picture.shape[-2:]
            cuts = cutouts.draw(self.generator, s.cutouts, height, width, clip.size, s.cut_power, s.augment)
            group = s.group or len(cuts)
            for first in range(0, len(cuts), group):
                with torch.enable_grad():
                    seen = picture.detach().requires_grad_()
                    views = cutouts.apply(seen, cuts, slice(first, first + group))
                    with self._clip_precision():
                        embeddings = clip.embed_image(views)
                    share = len(views) / len(cuts) / len(self.clips)
                    part = share * prompt_losses(embeddings.float(), texts, targets.weights, targets.stops)
                    (on_seen,) = torch.autograd.grad(part.sum() * self._loss_scale, seen)
                losses += part.detach()
                gradient += on_seen
        return losses, gradient

    @torch.no_grad()
    def _move(self, gradient: Tensor) -> None:
        s = self.settings
        last_quarter = self.position >= 0.75 * s.iterations
        self.adam.param_groups[0]["lr"] = s.learning_rate / (10 if last_quarter else 1)
        self.z.grad = gradient
        self.adam.step()
        self.z.grad = None
        self.z.clamp_(self._low, self._high)
        # a memory of at most a tenth of the steps so far: else a short run would show the mean of all its way
        decay = min(s.ema, (1 + self.position) / (10 + self.position))
        self.average.lerp_(self.z, 1 - decay)
        self.position += 1

    @torch.no_grad()
    def image(self) -> Tensor:
        """The picture as it stands (3, H, W) in [-1, 1]: decoded from the latents' running average."""
        return self._decode(self.average)[0].mul(2).sub(1).clamp(-1, 1).cpu()

    def preview(self) -> Image.Image:
        """The picture as it stands."""
        from vqtools.media import to_picture

        return to_picture(self.image())

    def state_dict(self) -> dict[str, Any]:
        """All that the next steps depend on, beside the settings and the networks."""
        return {
            "position": self.position,
            "latents": _stored(self.z),
            "start": _stored(self.start),
            "average": _stored(self.average),
            "adam": {name: _stored(value) for name, value in self.adam.state[self.z].items()},
            "generator": self.generator.get_state(),
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
        self.adam.state[self.z] = {
            name: torch.empty_like(self.z).copy_(value) if value.dim() else value.clone()
            for name, value in state["adam"].items()
        }
        self.generator.set_state(state["generator"])

    def targets(self) -> Targets:
        """The prompts' embeddings, weights and stops; read again when the prompt has changed."""
        if self._targets is None or self._targets.prompt != self.settings.prompt:
            parsed, device = prompts.parse(self.settings.prompt), self.machine.device
            words = [prompt.text for prompt in parsed]
            with torch.no_grad():
                texts = [clip.embed_text(words).to(device, torch.float32) for clip in self.clips]
            weights = torch.tensor([prompt.weight for prompt in parsed], device=device)
            stops = torch.tensor([prompt.stop for prompt in parsed], device=device)
            self._targets = Targets(self.settings.prompt, words, weights, stops, texts)
        return self._targets

    def _decode(self, latents: Tensor) -> Tensor:
        """Latents (1, c, h, w) -> picture (1, 3, H, W), about [0, 1]; the gradient goes straight through the codes."""
        quantized = self.vqgan.quantize.snap(latents).contiguous(memory_format=self.layout)
        with self.machine.autocast():
            image = self.vqgan.decode_latents(quantized)
        return image.float().add(1).div(2)

    def _clip_precision(self) -> AbstractContextManager[Any]:
        # depthwise convolutions crawl in bf16 on every CPU
        return nullcontext() if self.machine.device.type == "cpu" else self.machine.autocast()

    @property
    def _loss_scale(self) -> float:
        """Lifts gradients out of fp16's smallest numbers; a power of two, and 1 elsewhere, so it rounds nothing."""
        return 2.0**12 if self.machine.precision == "fp16" else 1.0


def _grid(size: tuple[int, int], f: int) -> tuple[int, int]:
    """Rows and columns of codes for a size of width and height in pixels."""
    for name, pixels in zip(("width", "height"), size, strict=True):
        if pixels <= 0 or pixels % f:
            raise UserError(f"{name} {pixels} is not a multiple of {f}; the nearest is {max(f, round(pixels / f) * f)}")
    return size[1] // f, size[0] // f


def _stored(tensor: Tensor) -> Tensor:
    """A copy on the CPU that later steps leave alone."""
    return tensor.detach().to("cpu", copy=True).contiguous()
