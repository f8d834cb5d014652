"""A test card seen through an animation's motion: the camera can be judged in seconds, without any network.

Knows settings and geometry; writes one file, the video.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from vqtools.animation.camera import homography, source_points
from vqtools.animation.settings import AnimateSettings
from vqtools.animation.timeline import Timeline
from vqtools.media.image import to_picture
from vqtools.media.png_record import save_png
from vqtools.media.video import WrittenVideo, frame_name, video_widget, write_video

if TYPE_CHECKING:
    from IPython.display import DisplayObject

_CELLS = 6  # squares across the shorter side at zoom 1
_CAPTION_LENGTH = 60  # characters of the prompt


def test_card(settings: AnimateSettings) -> DisplayObject:
    """The motion on a test card, as a video for a notebook's cell."""
    with tempfile.TemporaryDirectory() as folder:
        video = write_test_card_video(settings.quick(), Path(folder) / f"card.{settings.format}")
        return video_widget(video.path)


def write_test_card_video(settings: AnimateSettings, target: Path) -> WrittenVideo:
    """Write the motion on a test card as a video. A seed that is not set counts as 0."""
    seed = 0 if settings.seed is None else settings.seed
    with tempfile.TemporaryDirectory() as folder:
        paths = [
            save_png(Path(folder) / frame_name(number), picture, {})
            for number, picture in enumerate(render_test_card(settings, seed))
        ]
        return write_video(paths, target, fps=settings.fps, sides=settings.odd_sides, audio=settings.audio or None)


def render_test_card(settings: AnimateSettings, seed: int = 0) -> Iterator[Image.Image]:
    """Render the test card frame by frame, with the frame's number and prompt in a corner."""
    timeline = Timeline(settings, seed)
    timeline.check(settings.size)
    width, height = settings.size
    matrix = torch.eye(3, dtype=torch.float64)
    for frame in range(settings.frames):
        if frame:
            matrix = homography(timeline(frame).motion, width, height) @ matrix
        picture = to_picture(draw_test_card(matrix, width, height))
        caption = f"{frame}  {timeline.prompt(frame)[:_CAPTION_LENGTH]}"
        ImageDraw.Draw(picture).text((4, 3), caption, fill=(0, 0, 0))
        yield picture


def draw_test_card(matrix: Tensor, width: int, height: int) -> Tensor:
    """A coloured checkerboard (1, 3, H, W) in [-1, 1] warped by a homography (3, 3).

    Its squares are about equally large at every zoom: two grids, a doubling apart, fade into each other.
    """
    points = source_points(matrix, height, width)[0]
    offset = points - torch.tensor([width / 2, height / 2], dtype=points.dtype)
    middle = points[height // 2, width // 2 - 1 : width // 2 + 1]
    pixel = float((middle[1] - middle[0]).norm()) or 1e-12  # size of a pixel on the card
    level = math.log2(pixel)
    whole = math.floor(level)
    light = torch.zeros(height, width, dtype=torch.float64)
    for step, weight in ((whole, 1 - (level - whole)), (whole + 1, level - whole)):
        cells = (offset / (min(width, height) / _CELLS * 2.0**step)).floor()
        light += weight * (cells.sum(-1) % 2)
    angle = torch.atan2(offset[..., 1], offset[..., 0])
    hues = torch.stack([(angle + k * 2 * math.pi / 3).cos() for k in range(3)])
    return (0.35 * hues + 0.9 * light - 0.45).clamp(-1, 1).float()[None]
