"""Estimates before hours are spent: how long an animation will take, and how much disk it needs.

Measures a few real steps. Knows jobs and their parts; writes nothing.
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
from vqtools.animation.project import max_states
from vqtools.media.image import to_picture
from vqtools.painting.painter import Painter

_VIDEO_SIZE_FRACTION = 0.15  # of the frames' bytes
_ENCODE_SECONDS_PER_PIXEL = 1.5e-7  # of the video
_FILE_SECONDS = 0.01  # per frame, for what the disk takes beside the encoding of the PNG
_RECORD_BYTES = 4000  # per frame


class Estimate(NamedTuple):
    """What is still to come: seconds of work; the number of frames and the bytes on disk of the whole animation."""

    seconds: float
    frames: int
    bytes: int

    def __str__(self) -> str:
        """`60 frames, about 5:20 min, 8 MB`."""
        minutes = self.seconds / 60
        span = f"{minutes / 60:.1f} h" if minutes >= 90 else f"{int(minutes)}:{int(self.seconds % 60):02d} min"
        return f"{self.frames} frame{'s' * (self.frames != 1)}, about {span}, {max(1, round(self.bytes / 1e6))} MB"


def estimate_remaining(job: Animator | OctaveZoom, painter: Painter) -> Estimate:
    """Estimate what a job will take from where it stands.

    painter: a throw-away one with the same settings and networks. If the job's next step draws candidates, one real
    step is made and timed.
    """
    size, pixels = job.settings.size, math.prod(job.settings.size)
    guidance = _median_seconds(painter.step, 3)
    image = painter.image()[None]
    save, stored = _measure_png(image)
    work = _count_remaining(job)
    candidates = 0.0
    if work.candidate_rows:
        started = time.perf_counter()
        job.step()
        candidates = (time.perf_counter() - started) * work.candidate_rows
    if isinstance(job, OctaveZoom):
        frame = _median_seconds(lambda: render_level([image, image], 0.5), 2) + save
        seconds, states = work.frames * frame, 0
    else:
        matrix = homography(Motion(zoom=1.01, angle=1), *size)
        warping = _median_seconds(lambda: warp(image, matrix), 2)
        encoding = _median_seconds(lambda: painter.vqgan.encode(image.to(painter.machine.device)), 2)
        decoding = _median_seconds(painter.image, 2)
        seconds = work.painted * (encoding + decoding + warping) + (work.frames - work.painted) * 2 * warping
        seconds += work.frames * save
        states = max_states(work.painted) * _state_bytes(painter)
    seconds += candidates + work.iterations * guidance + job.settings.frames * pixels * _ENCODE_SECONDS_PER_PIXEL
    disk = job.settings.frames * stored * (1 + _VIDEO_SIZE_FRACTION) + states
    return Estimate(seconds, job.settings.frames, round(disk))


class _RemainingWork(NamedTuple):
    candidate_rows: int  # that the transformer draws
    iterations: int
    painted: int  # frames that are painted
    frames: int  # frames in total


def _count_remaining(job: Animator | OctaveZoom) -> _RemainingWork:
    iterations = job.settings.iterations
    if isinstance(job, OctaveZoom):
        pictures = job.count - len(job.pictures)
        rows = pictures * max(0, job.steps - iterations) if pictures else 0
        return _RemainingWork(rows, pictures * iterations, 0, job.settings.frames - job.frames_written)
    frames = job.plan.remaining(job.frames_made)
    rows = max(0, job.first.total - iterations) if not job.frames_made and job.first.position == 0 else 0
    steps = sum(frame.iterations for frame in frames) + (0 if job.frames_made else iterations)
    return _RemainingWork(rows, steps, len(frames), sum(1 + frame.skipped for frame in frames))


def _median_seconds(work: Callable[[], object], times: int) -> float:
    with torch.no_grad():
        work()  # the first call also sets things up
        seconds = []
        for _ in range(times):
            started = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - started)
    return sorted(seconds)[len(seconds) // 2]


def _measure_png(image: Tensor) -> tuple[float, int]:
    """Seconds and bytes of a frame's PNG."""
    picture, buffer = to_picture(image), io.BytesIO()
    started = time.perf_counter()
    picture.save(buffer, format="PNG")
    return time.perf_counter() - started + _FILE_SECONDS, buffer.tell() + _RECORD_BYTES


def _state_bytes(painter: Painter) -> int:
    """Size of a saved state: five float32 grids of latents, the last frame, and the rest."""
    return 5 * painter.z.numel() * 4 + 3 * math.prod(painter.settings.size) + 10_000
