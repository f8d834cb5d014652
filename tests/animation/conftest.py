"""A first picture painted by tiny real networks, for animations of a few frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from vqtools.animation.animator import Animator
from vqtools.animation.octave_zoom import OctaveZoom
from vqtools.animation.project import Project
from vqtools.animation.settings import AnimateSettings
from vqtools.core.device import Machine
from vqtools.media.image import to_tensor
from vqtools.models.vqgan import VQGAN, VQGANConfig
from vqtools.painting.painter import Painter

CPU = Machine(device=torch.device("cpu"), precision="fp32", threads=1)


class TinyCLIP(nn.Module):
    """A convolution and a linear head for pictures, a bag of letters for texts."""

    size = 16

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.tower = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.GELU(), nn.Flatten(), nn.Linear(128, 12))
            self.letters = nn.EmbeddingBag(256, 12)

    def embed_text(self, texts: list[str]) -> Tensor:
        return F.normalize(torch.cat([self.letters(torch.tensor([list(text.encode())])) for text in texts]), dim=-1)

    def embed_image(self, images: Tensor) -> Tensor:
        return F.normalize(self.tower(images), dim=-1)


def tiny_vqgan() -> VQGAN:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = VQGANConfig(
            channels=8, channel_mult=(1, 2), res_blocks=1, attn_resolutions=(), z_channels=6, embed_dim=6,
            codebook_size=64, norm_groups=4,
        )  # fmt: skip
        vqgan = VQGAN(config)
        vqgan.quantize.embedding.weight.data.normal_()
    return vqgan


class First:
    """A picture from random codes, or from a start, guided for the settings' iterations."""

    def __init__(self, settings: AnimateSettings, start: Image.Image | None = None) -> None:
        self.settings, self.vqgan = settings, tiny_vqgan()
        latents = None
        if start is not None:
            with torch.no_grad():
                latents = self.vqgan.codes_to_latents(self.vqgan.encode(to_tensor(start)))
        self.painter: Painter | None = self._new(latents)
        self.total = settings.iterations

    def _new(self, start: Tensor | None) -> Painter:
        return Painter(self.settings, self.vqgan, [TinyCLIP()], start=start, machine=CPU)

    @property
    def position(self) -> int:
        assert self.painter is not None
        return self.painter.position

    def step(self) -> dict[str, float]:
        assert self.painter is not None
        return self.painter.step()

    def preview(self) -> Image.Image:
        assert self.painter is not None
        return self.painter.preview()

    def state_dict(self) -> dict[str, Any]:
        assert self.painter is not None
        return {"sampler": None, "painter": self.painter.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.painter = self._new(state["painter"]["start"])
        self.painter.load_state_dict(state["painter"])


Make = Callable[..., Any]


def settings_of(**fields: Any) -> AnimateSettings:
    values = {
        "prompt": "a red apple", "size": (24, 16), "seed": 5, "iterations": 3, "cutouts": 2, "frames": 5,
        "iterations_per_frame": "2",
    }  # fmt: skip
    return AnimateSettings.parse({**values, **fields})


@pytest.fixture
def animator() -> Make:
    """An animator of 24x16 pixels in a folder; fields of AnimateSettings are keywords."""

    def make(folder: Path, **fields: Any) -> Animator:
        settings = settings_of(**fields)
        project = Project(folder, {"settings": settings.model_dump(mode="json")})
        project.save()
        return Animator(settings, First(settings), project, seed=5)

    return make


@pytest.fixture
def octaves() -> Make:
    """An octave zoom of 32x16 pixels in a folder. record: what the folder holds beside the settings."""

    def make(folder: Path, *, record: Mapping[str, Any] | None = None, **fields: Any) -> OctaveZoom:
        settings = settings_of(**{"size": (32, 16), "octave_zoom": True, "zoom": "1.3", "frames": 8, **fields})
        project = Project(folder, {**(record or {}), "settings": settings.model_dump(mode="json")})
        project.save()

        def create_job(prompt: str, seed: int, transform: Any) -> First:
            picture_settings = settings.model_copy(update={"prompt": prompt, "seed": seed})
            return First(picture_settings, transform(None))

        return OctaveZoom(settings, create_job, project, seed=5)

    return make
