"""Before hours are spent: how long, how many frames, how much disk; and the motion at once, on a test card.

Knows jobs and their parts; writes one file, the test card as a video.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vqtools.animation.animator import Animator
from vqtools.animation.camera import Motion, homography, warp
from vqtools.animation.octave_pyramid import render_level
from vqtools.animation.octave_zoom import OctaveZoom
from vqtools.media.image import to_picture
from vqtools.painting.painter import Painter

_VIDEO_SIZE_FRACTION = 0.15  # of the frames' bytes
_ENCODE_SECONDS_PER_PIXEL = 1.5e-7  # a pixel, of the video


class Estimate(NamedTuple):
    """What is still to come: seconds, frames in all, bytes on disk."""

    seconds: float
    frames: int
    bytes: int

    def __str__(self) -> str:
        """`60 frames, about 5:20 min, 8 MB`."""
        minutes = self.seconds / 60
        span = f"{minutes / 60:.1f} h" if minutes >= 90 else f"{int(minutes)}:{int(self.seconds % 60):02d} min"
        return f"{self.frames} frame{'s' * (self.frames != 1)}, about {span}, {max(1, round(self.bytes / 1e6))} MB"


def estimate_remaining(job: Animator | OctaveZoom, painter: Painter) -> Estimate:
    """What a job will take from where it stands. ``painter`` is a trial of the same settings and networks.

    The job's next step is a real one where it draws drafts: they take as long as one of them, times their number.
    """
    size, pixels = job.settings.size, math.prod(job.settings.size)
    guided = _median_seconds(painter.step, 3)
    picture = painter.image()[None]
    save, stored = _measure_png(picture)
    work = _count_remaining(job)
    drafted = 0.0
    if work.rows:
        started = time.perf_counter()
        job.step()
        drafted = (time.perf_counter() - started) * work.rows
    turn = homography(Motion(zoom=1.01, angle=1), *size)
    between = _median_seconds(lambda: warp(picture, turn), 2)
    if isinstance(job, OctaveZoom):
        frame = _median_seconds(lambda: render_level([picture, picture], 0.5), 2) + save
        seconds = work.frames * frame
    else:
        redraw = _median_seconds(lambda: painter.vqgan.encode(picture.to(painter.machine.device)), 2)
        shown = _median_seconds(painter.image, 2)
        seconds = work.painted * (redraw + shown + between) + (work.frames - work.painted) * 2 * between
        seconds += work.frames * save
    seconds += drafted + work.iterations * guided + job.settings.frames * pixels * _ENCODE_SECONDS_PER_PIXEL
    states = 0 if isinstance(job, OctaveZoom) else min(work.painted, 60 + work.painted // 30) * _state_bytes(painter)
    return Estimate(
        seconds, job.settings.frames, round(job.settings.frames * stored * (1 + _VIDEO_SIZE_FRACTION) + states)
    )


class _RemainingWork(NamedTuple):
    rows: int  # of drafts
    iterations: int
    painted: int  # frames that are painted
    frames: int  # frames in all


def _count_remaining(job: Animator | OctaveZoom) -> _RemainingWork:
    iterations = job.settings.iterations
    if isinstance(job, OctaveZoom):
        pictures = job.count - len(job.pictures)
        return _RemainingWork(pictures * max(0, job.steps - iterations) if pictures else 0, pictures * iterations, 0,
                     job.settings.frames - job.frames)  # fmt: skip
    frames = [frame for frame in job.plan if frame.number >= job.made]
    rows = max(0, job.first.total - iterations) if not job.made and job.first.position == 0 else 0
    steps = sum(frame.iterations for frame in frames) + (0 if job.made else iterations)
    return _RemainingWork(rows, steps, len(frames), sum(1 + frame.between for frame in frames))


def _median_seconds(work: Callable[[], object], times: int) -> float:
    with torch.no_grad():
        work()  # the first also pays for what is set up once
        spent = []
        for _ in range(times):
            started = time.perf_counter()
            work()
            spent.append(time.perf_counter() - started)
    return sorted(spent)[len(spent) // 2]


def _measure_png(picture: Tensor) -> tuple[float, int]:
    """Seconds and bytes of a frame's PNG."""
    image, buffer = to_picture(picture), io.BytesIO()
    started = time.perf_counter()
    image.save(buffer, format="PNG")
    return time.perf_counter() - started + 0.01, buffer.tell() + 4000  # and what the disk and the record take


def _state_bytes(painter: Painter) -> int:
    return 5 * painter.z.numel() * 4 + 3 * math.prod(painter.settings.size) + 10_000
