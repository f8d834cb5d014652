"""The CLIP objective: how far a picture is from its prompts in CLIP's embedding, and the gradient on its pixels.

Knows pictures, prompt embeddings and masks; nothing about latents, decoders or optimisers. Crowson et al. 2022,
arXiv 2204.08583.

Shapes: p prompts, H and W the picture's sides in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vqtools.core.device import Machine
from vqtools.painting.clip_loss import prompt_losses
from vqtools.painting.cutouts import apply_cutouts, draw_cutouts
from vqtools.painting.masks import Mask, bounding_box
from vqtools.painting.prompt_embeddings import CLIPLike, PromptEmbeddings
from vqtools.painting.settings import PaintSettings


def loss_scale(machine: Machine) -> float:
    """Factor that keeps gradients above fp16's smallest numbers; 1 for other precisions.

    It is a power of two, so multiplying and dividing by it rounds nothing.
    """
    return 2.0**12 if machine.precision == "fp16" else 1.0


class ClipObjective:
    """Weighted sum over several CLIPs of the losses of all prompts.

    clips: each scores random cutouts of the picture at its own input size.
    clip_weights: fractions of the loss, one for each CLIP, which sum to 1.
    generator: on the CPU; all random numbers are drawn from it: first the seam shift, then the cutouts of each CLIP
        and, within a CLIP, of each group of prompts.
    """

    def __init__(
        self, clips: Sequence[CLIPLike], clip_weights: Sequence[float], machine: Machine, generator: torch.Generator
    ) -> None:
        self.clips, self.clip_weights = clips, clip_weights
        self.machine, self.generator = machine, generator

    def losses_and_gradient(
        self, picture: Tensor, prompts: PromptEmbeddings, masks: Mapping[str, Mask], settings: PaintSettings
    ) -> tuple[Tensor, Tensor]:
        """Loss (p,) of each prompt on a picture (1, 3, H, W) in [0, 1], and the gradient of their sum on the picture.

        The gradient is multiplied by :func:`loss_scale`. masks: areas to which prompts are confined, by "prompt 0", ….
        """
        losses, gradient = torch.zeros_like(prompts.weights), torch.zeros_like(picture)
        shift = self._draw_seam_shift(picture, masks, settings)
        views = [_View(picture, shift, indices, mask) for indices, mask in _prompts_by_mask(picture, prompts, masks)]
        for clip, texts, clip_weight in zip(self.clips, prompts.embeddings, self.clip_weights, strict=True):
            for view in views:
                part, part_gradient = self._clip_loss(clip, clip_weight, texts, view, prompts, settings)
                losses[view.prompts] += part
                gradient += part_gradient
        return losses, gradient

    def _clip_loss(
        self,
        clip: CLIPLike,
        clip_weight: float,
        texts: Tensor,
        view: _View,
        prompts: PromptEmbeddings,
        settings: PaintSettings,
    ) -> tuple[Tensor, Tensor]:
        """One CLIP's part of the losses of some prompts and its gradient, summed over groups of cutouts.

        The graph of each group is freed before the next, so memory does not grow with the number of cutouts.
        """
        s, indices = settings, view.prompts
        cutouts = draw_cutouts(
            self.generator, s.cutouts, *view.size, clip.size, s.cut_power, s.augment, s.cut_method
        )  # fmt: skip
        group = s.group or len(cutouts)
        losses, gradient = torch.zeros_like(prompts.weights[indices]), torch.zeros_like(view.picture)
        for first in range(0, len(cutouts), group):
            with torch.enable_grad():
                leaf = view.picture.detach().requires_grad_()
                images = apply_cutouts(view.crop(leaf), cutouts, slice(first, first + group))
                with self._clip_precision(settings):
                    embeddings = clip.embed_image(images)
                part = (len(images) / len(cutouts) * clip_weight) * prompt_losses(
                    embeddings.float(), texts[indices], prompts.weights[indices], prompts.stops[indices]
                )
                (part_gradient,) = torch.autograd.grad(part.sum() * loss_scale(self.machine), leaf)
            losses += part.detach()
            gradient += part_gradient
        return losses, gradient

    def _draw_seam_shift(self, picture: Tensor, masks: Mapping[str, Mask], settings: PaintSettings) -> tuple[int, int]:
        """Rows and columns by which a seamless picture is rolled, so that its seam is scored like everything else."""
        # prompts with regions have fixed places, which must not be moved
        if not settings.seamless or any(key != "protect" for key in masks):
            return (0, 0)
        fractions = torch.rand(2, generator=self.generator)
        return int(fractions[0] * picture.shape[2]), int(fractions[1] * picture.shape[3])

    def _clip_precision(self, settings: PaintSettings) -> AbstractContextManager[Any]:
        if self.machine.device.type == "cpu" and settings.clip_precision == "auto":
            return nullcontext()
        return self.machine.autocast_except_strided_convs()


@dataclass(frozen=True)
class _View:
    """The part of a picture that some prompts apply to."""

    picture: Tensor  # (1, 3, H, W) in [0, 1], detached
    shift: tuple[int, int]  # rows and columns to roll by
    prompts: list[int]  # indices
    mask: Tensor | None  # (H, W); None for the whole picture

    @property
    def _box(self) -> tuple[slice, slice]:
        return (slice(None), slice(None)) if self.mask is None else bounding_box(self.mask)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        rows, columns = self._box
        height, width = self.picture[..., rows, columns].shape[-2:]
        return height, width

    def crop(self, leaf: Tensor) -> Tensor:
        """Cut the part out of ``leaf``, a copy of the picture that requires a gradient."""
        shown = leaf.roll(self.shift, (2, 3)) if self.shift != (0, 0) else leaf
        if self.mask is None:
            return shown
        rows, columns = self._box
        # the surroundings inside the bounding box are visible to CLIP, but get no gradient
        return torch.lerp(self.picture, shown, self.mask)[..., rows, columns]


def _prompts_by_mask(
    picture: Tensor, prompts: PromptEmbeddings, masks: Mapping[str, Mask]
) -> list[tuple[list[int], Tensor | None]]:
    """Groups of prompts with equal masks, in the order of their first prompt: indices, mask (H, W) or None."""
    groups: dict[Mask | None, list[int]] = {}
    for index in range(len(prompts.names)):
        groups.setdefault(masks.get(f"prompt {index}"), []).append(index)
    height, width = picture.shape[-2:]
    return [
        (indices, None if mask is None else mask.at_size(height, width).to(picture.device))
        for mask, indices in groups.items()
    ]
