"""Small real networks to paint with."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqtools.core.device import Machine
from vqtools.models.vqgan import VQGAN, VQGANConfig
from vqtools.painting.painter import Painter
from vqtools.painting.settings import PaintSettings

CPU = Machine(device=torch.device("cpu"), precision="fp32", threads=1)


class TinyCLIP(nn.Module):
    """Two convolutions and a linear head for pictures, a bag of letters for texts."""

    name = "tiny"

    def __init__(self, size: int = 16, seed: int = 0) -> None:
        super().__init__()
        self.size = size
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.tower = nn.Sequential(
                nn.Conv2d(3, 8, 4, stride=4), nn.GELU(), nn.Conv2d(8, 16, 3, padding=1), nn.GELU(), nn.Flatten()
            )
            self.head = nn.Linear(16 * (size // 4) ** 2, 12)
            self.letters = nn.EmbeddingBag(256, 12)

    def embed_text(self, texts: list[str]) -> Tensor:
        return F.normalize(torch.cat([self.letters(torch.tensor([list(text.encode())])) for text in texts]), dim=-1)

    def embed_image(self, images: Tensor) -> Tensor:
        return F.normalize(self.head(self.tower(images)), dim=-1)


def tiny_vqgan() -> VQGAN:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = VQGANConfig(
            channels=8, channel_mult=(1, 2), res_blocks=1, attn_resolutions=(), z_channels=6, embed_dim=6,
            codebook_size=32, norm_groups=4,
        )  # fmt: skip
        vqgan = VQGAN(config)
        vqgan.quantize.embedding.weight.data.normal_()
        vqgan.decoder.conv_out.weight.data.mul_(6)  # reaches beyond [-1, 1], so that the clamp has work to do
    return vqgan


@pytest.fixture
def painter() -> Callable[..., Painter]:
    """A painter of 24x16 pixels with tiny networks; fields of PaintSettings are keywords."""

    def make(
        start: Tensor | None = None,
        clips: list[TinyCLIP] | None = None,
        weights: list[float] | None = None,
        machine: Machine = CPU,
        **fields: object,
    ) -> Painter:
        values = {"prompt": "a red apple:1.5 | blur:-0.5", "size": (24, 16), "seed": 1, "iterations": 8, "cutouts": 5}
        settings = PaintSettings.parse({**values, **fields})
        return Painter(
            settings, tiny_vqgan(), clips or [TinyCLIP()], clip_weights=weights, start=start, machine=machine
        )  # fmt: skip

    return make


@pytest.fixture
def tiny_clip() -> type[TinyCLIP]:
    return TinyCLIP
