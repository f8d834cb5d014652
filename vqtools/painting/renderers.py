"""What latents become a picture through: a VQGAN's codes, or bare pixels.

Knows networks and latents; nothing about prompts or steps. A network that is handed in is never changed: where a drawer
needs another form of it, that is a copy of the modules which shares the weights.

Shapes: c dimensions of a latent, h and w its grid, f pixels a cell, k codes, H = h·f and W = w·f.
"""

from __future__ import annotations

import copy
from itertools import chain
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vqtools.core.device import Machine
from vqtools.models.quantizers import nearest_codes, straight_through
from vqtools.models.vqgan import VQGAN, AttnBlock, ResnetBlock, Upsample
from vqtools.painting.settings import Symmetry

CHECKPOINTABLE_BLOCKS = (ResnetBlock, AttnBlock, Upsample)  # what a decoder may go through twice instead of remembering


class Renderer(Protocol):
    """Latents to pictures."""

    f: int  # pixels a cell, along each side
    channels: int  # of a latent
    low: Tensor  # (1, c, 1, 1), the least that a latent may be
    high: Tensor

    def random(self, rows: int, columns: int, generator: torch.Generator) -> Tensor:
        """Latents (1, c, rows, columns) to begin with."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (1, c, h, w) -> picture (1, 3, H, W), about [0, 1], not clamped; differentiable."""
        ...


class CodeRenderer:
    """Nearest codes, straight through, then the decoder.

    codes: indices (k,) of those that may be used; all without. seamless: edges that fit each other, by circular
    padding. forget: keep only the inputs of the decoder's blocks for the way back, and go each block twice.
    """

    def __init__(
        self,
        vqgan: VQGAN,
        machine: Machine,
        *,
        codes: Tensor | None = None,
        seamless: bool = False,
        forget: bool = False,
        compiled: bool = False,
    ) -> None:
        self.machine, self.f = machine, vqgan.f
        # channels last suits a GPU's half precision; on a CPU the group norms lose more by it than convolutions gain
        self.layout = torch.channels_last if machine.device.type == "cuda" else torch.contiguous_format
        self.vqgan = _share_weights(vqgan, seamless, forget) if seamless or forget else vqgan
        self._draw: Any = torch.compile(self.vqgan.decode_latents) if compiled else self.vqgan.decode_latents
        book = vqgan.codebook.detach()
        self.codes = codes
        self.codebook = book if codes is None else book[codes.to(book.device)]
        self.channels = book.shape[1]
        # of the whole codebook, also under a style: there latents may pass between codes that they can't stop at
        self.low, self.high = (bound.view(1, -1, 1, 1) for bound in (book.float().amin(0), book.float().amax(0)))

    def random(self, rows: int, columns: int, generator: torch.Generator) -> Tensor:
        """Latents of codes drawn at random."""
        drawn = torch.randint(len(self.codebook), (1, rows, columns), generator=generator)
        return F.embedding(drawn.to(self.codebook.device), self.codebook).permute(0, 3, 1, 2).contiguous()

    def quantize(self, latents: Tensor) -> Tensor:
        """Latents (1, c, h, w) -> those of the nearest codes that may be used; the gradient goes straight through."""
        b, c, h, w = latents.shape
        vectors = self.vqgan.quantize.flatten(latents)
        chosen = F.embedding(nearest_codes(vectors.detach(), self.codebook), self.codebook)
        return straight_through(vectors, chosen).view(b, h, w, c).permute(0, 3, 1, 2)

    def decode(self, latents: Tensor) -> Tensor:
        quantized = self.quantize(latents).contiguous(memory_format=self.layout)
        with self.machine.autocast():
            image: Tensor = self._draw(quantized)
        return image.float().add(1).div(2)


class PixelRenderer:
    """No network at all: the latents are the picture. What comes of it shows what codes are good for."""

    f, channels = 1, 3

    def __init__(self, machine: Machine) -> None:
        self.low, self.high = torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)
        self.low, self.high = self.low.to(machine.device), self.high.to(machine.device)

    def random(self, rows: int, columns: int, generator: torch.Generator) -> Tensor:
        return torch.rand(1, 3, rows, columns, generator=generator).to(self.low.device)

    def decode(self, latents: Tensor) -> Tensor:
        return latents.float()


class _CheckpointedBlock(nn.Module):
    """A block of which only the input is kept for the backward pass."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Any:
        if not torch.is_grad_enabled():
            return self.block(x)
        return checkpoint(self.block, x, use_reentrant=False, preserve_rng_state=False)


def _share_weights(vqgan: VQGAN, seamless: bool, forget: bool) -> VQGAN:
    """Other modules around the same weights."""
    shared: dict[int, Any] = {id(tensor): tensor for tensor in chain(vqgan.parameters(), vqgan.buffers())}
    twin = copy.deepcopy(vqgan, shared)
    for module in list(twin.decoder.modules()):
        if seamless and isinstance(module, nn.Conv2d) and module.padding != (0, 0):
            module.padding_mode = "circular"
        if forget:
            for name, child in list(module.named_children()):
                if isinstance(child, CHECKPOINTABLE_BLOCKS):
                    setattr(module, name, _CheckpointedBlock(child))
    return twin


def apply_symmetry(picture: Tensor, symmetry: Symmetry) -> Tensor:
    """The left half's mirror image in place of the right one, the upper's in place of the lower one, or both."""
    if symmetry in ("left-right", "both"):
        left = picture[..., : (picture.shape[3] + 1) // 2]
        picture = torch.cat([left, left[..., : picture.shape[3] // 2].flip(3)], dim=3)
    if symmetry in ("top-bottom", "both"):
        top = picture[..., : (picture.shape[2] + 1) // 2, :]
        picture = torch.cat([top, top[..., : picture.shape[2] // 2, :].flip(2)], dim=2)
    return picture
