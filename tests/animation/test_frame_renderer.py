"""Frames are rendered once, also over several runs."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from vqtools.animation.frame_renderer import FrameRenderer
from vqtools.animation.project import Project
from vqtools.animation.settings import FlySettings


def test_an_interrupted_run_renders_no_frame_twice(tmp_path: Path) -> None:
    rendered: list[int] = []

    def render(number: int) -> Image.Image:
        rendered.append(number)
        return Image.new("RGB", (8, 8), (number, 0, 0))

    for stop in (2, 5):
        job = FrameRenderer(FlySettings(frames=5), Project(tmp_path, {}), render)
        while job.position < stop:
            job.step()
    assert rendered == [0, 1, 2, 3, 4]
