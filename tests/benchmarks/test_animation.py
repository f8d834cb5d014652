"""Animation with the starter models: time against its estimate, overhead, memory, and how steady the frames are.

pytest -m benchmark -s tests/benchmarks/test_animation.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import types
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from recipes.frames import PUBLISHED, STORED
from vqtools.animation import estimate
from vqtools.animation.animator import Animator
from vqtools.animation.octave_zoom import OctaveZoom
from vqtools.animation.project import Project, export_animation_video
from vqtools.animation.settings import AnimateSettings
from vqtools.core.job import finish
from vqtools.media.image import load_picture
from vqtools.painting.painter import Painter
from vqtools.pipelines.animate import create_animation, estimate_animation

pytestmark = pytest.mark.benchmark


def create_job(folder: Path, **fields: Any) -> Animator | OctaveZoom:
    settings = AnimateSettings.parse({"prompt": "a castle", "seed": 1, **fields})
    project = Project(folder, {"settings": settings.model_dump(mode="json")})
    project.save()
    return create_animation(settings, project)


def render_frames(job: Animator | OctaveZoom) -> list[np.ndarray]:
    finish(job)
    return [np.asarray(load_picture(path)) for path in sorted(job.project.frames.glob("*.png"))]


def to_grey(picture: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)


def unsteadiness(pictures: Sequence[np.ndarray]) -> float:
    """Return the mean absolute difference of adjacent frames, the second warped back by DIS optical flow; 0 to 255."""
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    differences = []
    for a, b in pairwise(pictures):
        flow = dis.calc(to_grey(a), to_grey(b), None)
        y, x = np.mgrid[: a.shape[0], : a.shape[1]].astype(np.float32)
        warped = cv2.remap(b, x + flow[..., 0], y + flow[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        differences.append(np.abs(warped.astype(float) - a)[8:-8, 8:-8].mean())
    return float(np.mean(differences))


def sharpness(pictures: Sequence[np.ndarray]) -> float:
    """Return the variance of the Laplacian, averaged over frames."""
    return float(np.mean([cv2.Laplacian(to_grey(picture), cv2.CV_64F).var() for picture in pictures]))


def processor_seconds() -> float:
    """Return the processor time used so far, ffmpeg's included; other load on the machine does not count."""
    return sum(os.times()[:4])


@pytest.mark.parametrize(("octave", "limit"), [(False, 360), (True, 120)])
def test_processor_time_of_60_frames_agrees_with_the_estimate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, octave: bool, limit: int
) -> None:
    job = create_job(
        tmp_path, size=(256, 256), frames=60, fps=12, octave_zoom=octave, iterations=100 if not octave else 60
    )
    monkeypatch.setattr(estimate, "time", types.SimpleNamespace(perf_counter=processor_seconds))
    expected = estimate_animation(job).seconds
    started, used = time.perf_counter(), processor_seconds()
    render_frames(job)
    export_animation_video(job.project, job.settings)
    wall, used = time.perf_counter() - started, processor_seconds() - used
    print(
        f"{'octave zoom' if octave else 'zoom'}, 60 frames of 256x256: {used:.0f} s of processor time,"
        f" {expected:.0f} estimated; {wall:.0f} s wall time at a load of {os.getloadavg()[1]:.1f}"
    )
    assert abs(used - expected) <= 0.25 * used
    assert used <= limit


def test_overhead_per_frame_is_at_most_15_percent_of_the_guidance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = create_job(tmp_path, size=(256, 256), frames=8, iterations=3, iterations_per_frame="10")
    guidance_seconds = [0.0]
    step = Painter.step

    def timed(self: Painter) -> dict[str, float]:
        started = time.perf_counter()
        scalars = step(self)
        guidance_seconds[0] += time.perf_counter() - started
        return scalars

    while not job.done:
        job.step()
    monkeypatch.setattr(Painter, "step", timed)
    started = time.perf_counter()
    pictures = render_frames(job)
    total = time.perf_counter() - started
    overhead = total - guidance_seconds[0]
    fraction = overhead / guidance_seconds[0]
    print(f"overhead: {fraction:.1%} of guidance, {overhead / (len(pictures) - 1) * 1000:.0f} ms per frame")
    assert fraction <= 0.15


@pytest.mark.parametrize("prompt", ["a castle", "a sunflower"])
def test_frames_are_steadier_than_the_published_loops_and_as_sharp(tmp_path: Path, prompt: str) -> None:
    fields = {"prompt": prompt, "size": (160, 160), "frames": 24, "iterations": 60, "grids": 16, **STORED}
    measured = {}
    for name, extra in (("published", PUBLISHED), ("ours", {})):
        pictures = render_frames(create_job(tmp_path / name, **fields, **extra))[1:]
        measured[name] = unsteadiness(pictures), sharpness(pictures)
    octave = render_frames(
        create_job(tmp_path / "octave", **{**fields, "octave_zoom": True, "angle": "0", "translation_x": "0"})
    )
    measured["octave zoom"] = unsteadiness(octave), sharpness(octave)
    for name, (steady, sharp) in measured.items():
        print(f"{prompt}, {name}: adjacent frames differ by {steady:.2f}, variance of the Laplacian {sharp:.0f}")
    published, ours = measured["published"], measured["ours"]
    assert ours[0] <= 0.7 * published[0] and ours[1] >= published[1]
    assert measured["octave zoom"][0] <= 0.2 * published[0]


@pytest.mark.parametrize("seed", [1, 2])
def test_the_seam_of_a_loop_is_no_larger_than_the_median_step(tmp_path: Path, seed: int) -> None:
    fields = {"prompt": "a red apple", "seed": seed, "size": (96, 96), "frames": 24, "iterations": 40, "grids": 8}
    pictures = [picture.astype(float) for picture in render_frames(create_job(tmp_path, loop=True, **fields))]
    median = float(np.median([np.abs(a - b).mean() for a, b in pairwise(pictures)]))
    seam = np.abs(pictures[-1] - pictures[0]).mean()
    print(f"seed {seed}: {seam:.2f} of 255 over the seam, median between adjacent frames {median:.2f}")
    assert seam <= median


def test_peak_memory_does_not_grow_with_the_number_of_frames(tmp_path: Path) -> None:
    program = (
        "import resource, sys; sys.path.insert(0, {tests!r})\n"
        "from pathlib import Path; from test_animation import create_job\n"
        "job = create_job(Path({folder!r}), size=(64, 64), frames={frames}, iterations=3, grids=2, cutouts=2,"
        " iterations_per_frame='1')\nfrom vqtools.core.job import finish; finish(job)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for frames in (30, 300):
        text = program.format(tests=str(Path(__file__).parent), folder=str(tmp_path / str(frames)), frames=frames)
        peaks.append(int(subprocess.run([sys.executable, "-c", text], check=True, capture_output=True).stdout) / 1024)
    print(f"peak memory: {peaks[0]:.0f} MB for 30 frames, {peaks[1]:.0f} MB for 300")
    assert peaks[1] <= 1.05 * peaks[0]
