"""Fixtures and settings shared by all tests."""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, settings
from PIL import Image

from vqtools.media.image import to_picture
from vqtools.media.png_record import save_png
from vqtools.media.video import frame_name, write_video

# the machine may be busy with something else: a slow example is no failure
settings.register_profile("vqtools", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("vqtools")

Make = Callable[..., Any]


@pytest.fixture
def shapes() -> Make:
    """Pictures of 96x64 pixels: a textured square moves right over a textured background, 2 pixels per frame."""

    def make(count: int) -> list[Image.Image]:
        ground = torch.rand(1, 1, 16, 24, generator=torch.Generator().manual_seed(1)) * 1.2 - 0.6
        ground = F.interpolate(ground, size=(64, 96), mode="bicubic").clamp(-1, 1)
        ground = ground * torch.tensor([1.0, 0.8, 0.5]).view(1, 3, 1, 1)
        square = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(2)) * 1.6 - 0.6
        square = F.interpolate(square, size=(24, 24), mode="bicubic").clamp(-1, 1)
        made = []
        for number in range(count):
            image = ground.clone()
            image[..., 20:44, 10 + 2 * number : 34 + 2 * number] = square
            made.append(to_picture(image))
        return made

    return make


@pytest.fixture
def clip(shapes: Make, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A video of those pictures, 8 frames per second, with a tone of the same length, or silent."""

    def make(count: int = 12, sound: bool = True) -> Path:
        folder = tmp_path_factory.mktemp("clip")
        paths = [save_png(folder / frame_name(number), picture, {}) for number, picture in enumerate(shapes(count))]
        if sound:
            with wave.open(str(folder / "tone.wav"), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(8000)
                turns = torch.arange(1000 * count) / 8000 * 440 * 2 * torch.pi
                file.writeframes((turns.sin() * 20000).short().numpy().tobytes())
        made = write_video(paths, folder / "clip.mp4", fps=8, crf=4, audio=folder / "tone.wav" if sound else None)
        return made.path

    return make


@pytest.fixture(scope="session")
def edited_picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PNG of 64x64 pixels whose prompt was edited two steps before the end."""
    from vqtools.core.job import finish
    from vqtools.painting.settings import PaintSettings
    from vqtools.pipelines.paint import create_session

    settings = PaintSettings(prompt="a red apple", seed=2, size=(64, 64), iterations=4, cutouts=2, grids=1)
    job = create_session(settings)
    for _ in range(job.total - 2):
        job.step()
    job.edit({"prompt": "a green apple"})
    finish(job)
    return save_png(tmp_path_factory.mktemp("edited") / "apple.png", job.picture(), job.record())
