"""TODO: what this module is.

Split from vqtools.animation.forecast, vqtools.ui.animation.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from vqtools.animation.camera import homography, source_points
from vqtools.animation.settings import AnimateSettings
from vqtools.animation.timeline import Timeline
from vqtools.media.image import to_picture
from vqtools.media.png_record import save_png
from vqtools.media.video import WrittenVideo, frame_name, video_widget, write_video


def render_test_card(settings: AnimateSettings, seed: int = 0) -> Iterator[Image.Image]:
    """The motion on a test card, frame by frame: a grid that is as fine at every zoom. No network is needed."""
    track = Timeline(settings, seed)
    track.check(settings.size)
    width, height = settings.size
    way = torch.eye(3, dtype=torch.float64)
    for frame in range(settings.frames):
        if frame:
            way = homography(track(frame).motion, width, height) @ way
        picture = to_picture(draw_test_card(way, width, height))
        ImageDraw.Draw(picture).text((4, 3), f"{frame}  {track.prompt(frame)[:60]}", fill=(0, 0, 0))
        yield picture


def draw_test_card(way: Tensor, width: int, height: int) -> Tensor:
    """A grid (1, 3, H, W) in [-1, 1] as it is seen after a motion: its lines come and go by doublings of the zoom."""
    points = source_points(way, height, width)[0]
    away = points - torch.tensor([width / 2, height / 2], dtype=points.dtype)
    middle = points[height // 2, width // 2 - 1 : width // 2 + 1]
    pixel = float((middle[1] - middle[0]).norm()) or 1e-12  # of the card, in this frame
    level = math.log2(pixel)
    whole = math.floor(level)
    light = torch.zeros(height, width, dtype=torch.float64)
    for step, share in ((whole, 1 - (level - whole)), (whole + 1, level - whole)):
        cells = (away / (min(width, height) / 6 * 2.0**step)).floor()
        light += share * (cells.sum(-1) % 2)
    turn = torch.atan2(away[..., 1], away[..., 0])
    hues = torch.stack([(turn + k * 2 * math.pi / 3).cos() for k in range(3)])
    return (0.35 * hues + 0.9 * light - 0.45).clamp(-1, 1).float()[None]


def write_test_card_video(settings: AnimateSettings, target: Path) -> WrittenVideo:
    """The dry run as a video at ``target``."""
    with tempfile.TemporaryDirectory() as scratch:
        paths = [
            save_png(Path(scratch) / frame_name(number), picture, {})
            for number, picture in enumerate(render_test_card(settings, settings.seed or 0))
        ]
        return write_video(paths, target, fps=settings.fps, sides=settings.odd_sides, audio=settings.audio or None)


def test_card(settings: AnimateSettings) -> Any:
    """The motion alone on a test card, as a video for a cell's output; seconds, and no network."""
    with tempfile.TemporaryDirectory() as folder:
        return video_widget(write_test_card_video(settings.quick(), Path(folder) / f"card.{settings.format}").path)
