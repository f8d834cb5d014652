"""Renderers: what decodes latents to a picture, through a VQGAN's codes or as plain pixels.

Knows networks and latents; nothing about prompts or steps. A network that is an argument is never changed: a renderer
that needs a variant of it makes a copy of the modules that shares the weights.

Shapes: c dimensions of a latent, h and w its grid, f pixels per cell, k codes, H = h·f and W = w·f.
"""

from __future__ import annotations

import copy
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vqtools.core.device import Machine
from vqtools.media.image import to_tensor
from vqtools.models.quantizers import nearest_codes, straight_through
from vqtools.models.vqgan import VQGAN, AttnBlock, ResnetBlock, Upsample
from vqtools.painting.prompt_embeddings import LoadPicture
from vqtools.painting.settings import PaintSettings, Symmetry

if TYPE_CHECKING:
    from PIL import Image

CHECKPOINTABLE_BLOCKS = (ResnetBlock, AttnBlock, Upsample)  # recomputed as a whole under gradient checkpointing
_MAX_STYLE_SIDE = 1024  # pixels of a style image's longer side; larger ones are scaled down


class Renderer(Protocol):
    """Decodes latents to pictures.

    f: pixels per cell along each side. channels: dimensions c of a latent. low, high: range of latents, (1, c, 1, 1).
    """

    f: int
    channels: int
    low: Tensor
    high: Tensor

    def random(self, rows: int, columns: int, generator: torch.Generator) -> Tensor:
        """Random initial latents (1, c, rows, columns)."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (1, c, h, w) to a picture (1, 3, H, W) in about [0, 1], not clamped; differentiable."""
        ...


class CodeRenderer:
    """Quantizes latents to the nearest codes, with a straight-through gradient, and decodes them.

    codes: indices (k,) of the codes that may be used; all by default. seamless: opposite edges continue each other, by
    circular padding. checkpointing: keep only the inputs of the decoder's blocks for the backward pass, and recompute
    each block there. compiled: compile the decoder with torch.compile.
    """

    def __init__(
        self,
        vqgan: VQGAN,
        machine: Machine,
        *,
        codes: Tensor | None = None,
        seamless: bool = False,
        checkpointing: bool = False,
        compiled: bool = False,
    ) -> None:
        self.machine, self.f = machine, vqgan.f
        # channels last is faster in half precision on a GPU; on a CPU group norms lose more than convolutions gain
        self.layout = torch.channels_last if machine.device.type == "cuda" else torch.contiguous_format
        self.vqgan = _share_weights(vqgan, seamless, checkpointing) if seamless or checkpointing else vqgan
        self._draw: Any = torch.compile(self.vqgan.decode_latents) if compiled else self.vqgan.decode_latents
        codebook = vqgan.codebook.detach()
        self.codes = codes
        self.codebook = codebook if codes is None else codebook[codes.to(codebook.device)]
        self.channels = codebook.shape[1]
        # of the whole codebook, also with a style image: latents may pass through regions whose codes are not allowed
        bounds = codebook.float().amin(0), codebook.float().amax(0)
        self.low, self.high = (bound.view(1, -1, 1, 1) for bound in bounds)

    def random(self, rows: int, columns: int, generator: torch.Generator) -> Tensor:
        """Latents (1, c, rows, columns) of uniformly random codes."""
        indices = torch.randint(len(self.codebook), (1, rows, columns), generator=generator)
        return F.embedding(indices.to(self.codebook.device), self.codebook).permute(0, 3, 1, 2).contiguous()

    def quantize(self, latents: Tensor) -> Tensor:
        """Replace latents (1, c, h, w) by the nearest codes that may be used; the gradient passes straight through."""
        b, c, h, w = latents.shape
        vectors = self.vqgan.quantize.flatten(latents)
        nearest = F.embedding(nearest_codes(vectors.detach(), self.codebook), self.codebook)
        return straight_through(vectors, nearest).view(b, h, w, c).permute(0, 3, 1, 2)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (1, c, h, w) to a picture (1, 3, H, W) in about [0, 1], not clamped; differentiable."""
        quantized = self.quantize(latents).contiguous(memory_format=self.layout)
        with self.machine.autocast():
            image: Tensor = self._draw(quantized)
        return image.float().add(1).div(2)


class PixelRenderer:
    """Uses the latents as the picture's pixels, without any network: shows what optimisation does without codes."""

    f, channels = 1, 3

    def __init__(self, machine: Machine) -> None:
        self.low, self.high = torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)
        self.low, self.high = self.low.to(machine.device), self.high.to(machine.device)

    def random(self, rows: int, columns: int, generator: torch.Generator) -> Tensor:
        """Uniformly random pixels (1, 3, rows, columns) in [0, 1]."""
        return torch.rand(1, 3, rows, columns, generator=generator).to(self.low.device)

    def decode(self, latents: Tensor) -> Tensor:
        """The latents (1, 3, H, W) themselves, in fp32."""
        return latents.float()


def create_renderer(settings: PaintSettings, vqgan: VQGAN, machine: Machine, load: LoadPicture) -> Renderer:
    """The renderer that the settings ask for. load: opens the style image."""
    if settings.drawer == "pixels":
        return PixelRenderer(machine)
    codes = _codes_of_style(load(settings.style_image), vqgan, machine) if settings.style_image else None
    return CodeRenderer(
        vqgan, machine, codes=codes, seamless=settings.seamless, checkpointing=settings.checkpoint == "on",
        compiled=settings.compile,
    )  # fmt: skip


@torch.no_grad()
def _codes_of_style(picture: Image.Image, vqgan: VQGAN, machine: Machine) -> Tensor:
    """Indices (k,) of the codes that a picture is encoded to, sorted, each once."""
    scale = min(1.0, _MAX_STYLE_SIDE / max(picture.size))
    width, height = (max(vqgan.f, round(side * scale / vqgan.f) * vqgan.f) for side in picture.size)
    image = to_tensor(picture.resize((width, height))).to(machine.device)
    codes: Tensor = torch.unique(vqgan.encode(image))
    return codes


class _CheckpointedBlock(nn.Module):
    """A block under gradient checkpointing: only its input is kept for the backward pass."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Any:
        if not torch.is_grad_enabled():
            return self.block(x)
        return checkpoint(self.block, x, use_reentrant=False, preserve_rng_state=False)


def _share_weights(vqgan: VQGAN, seamless: bool, checkpointing: bool) -> VQGAN:
    """A copy of the modules that shares the weights, with circular padding or checkpointed blocks."""
    shared: dict[int, Any] = {id(tensor): tensor for tensor in chain(vqgan.parameters(), vqgan.buffers())}
    twin = copy.deepcopy(vqgan, shared)
    for module in list(twin.decoder.modules()):
        if seamless and isinstance(module, nn.Conv2d) and module.padding != (0, 0):
            module.padding_mode = "circular"
        if checkpointing:
            for name, child in list(module.named_children()):
                if isinstance(child, CHECKPOINTABLE_BLOCKS):
                    setattr(module, name, _CheckpointedBlock(child))
    return twin


def apply_symmetry(picture: Tensor, symmetry: Symmetry) -> Tensor:
    """Replace the right half of a picture (1, 3, H, W) by the mirrored left one, the lower by the upper, or both."""
    if symmetry in ("left-right", "both"):
        left = picture[..., : (picture.shape[3] + 1) // 2]
        picture = torch.cat([left, left[..., : picture.shape[3] // 2].flip(3)], dim=3)
    if symmetry in ("top-bottom", "both"):
        top = picture[..., : (picture.shape[2] + 1) // 2, :]
        picture = torch.cat([top, top[..., : picture.shape[2] // 2, :].flip(2)], dim=2)
    return picture
