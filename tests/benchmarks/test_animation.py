"""Animation with the starters: time, overhead, estimate, memory, steadiness.

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
from vqtools.media.image import load_picture
from vqtools.painting.painter import Painter
from vqtools.pipelines.animate import create_animation, estimate_animation

pytestmark = pytest.mark.benchmark


def job_of(folder: Path, **fields: Any) -> Animator | OctaveZoom:
    settings = AnimateSettings.parse({"prompt": "a castle", "seed": 1, **fields})
    project = Project(folder, {"settings": settings.model_dump(mode="json")})
    project.save()
    return create_animation(settings, project)


def run(job: Animator | OctaveZoom) -> list[np.ndarray]:
    while job.position < job.total:
        job.step()
    return [np.asarray(load_picture(path)) for path in sorted(job.project.frames.glob("*.png"))]


def grey(picture: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)


def unsteadiness(pictures: Sequence[np.ndarray]) -> float:
    """Mean absolute difference of neighbours, the second moved back along the DIS flow; 0 to 255."""
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    found = []
    for a, b in pairwise(pictures):
        flow = dis.calc(grey(a), grey(b), None)
        y, x = np.mgrid[: a.shape[0], : a.shape[1]].astype(np.float32)
        back = cv2.remap(b, x + flow[..., 0], y + flow[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        found.append(np.abs(back.astype(float) - a)[8:-8, 8:-8].mean())
    return float(np.mean(found))


def sharpness(pictures: Sequence[np.ndarray]) -> float:
    """Variance of the Laplacian, mean over frames."""
    return float(np.mean([cv2.Laplacian(grey(picture), cv2.CV_64F).var() for picture in pictures]))


def processor() -> float:
    """Seconds of processor time, ffmpeg's included: what a core of its own would take, also on a busy machine."""
    return sum(os.times()[:4])


@pytest.mark.parametrize(("octave", "limit"), [(False, 360), (True, 120)])
def test_five_seconds_of_zoom_and_the_estimate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, octave: bool, limit: int
) -> None:
    job = job_of(tmp_path, size=(256, 256), frames=60, fps=12, octave_zoom=octave, iterations=100 if not octave else 60)
    monkeypatch.setattr(estimate, "time", types.SimpleNamespace(perf_counter=processor))
    expected = estimate_animation(job).seconds
    started, used = time.perf_counter(), processor()
    run(job)
    export_animation_video(job.project, job.settings)
    took, used = time.perf_counter() - started, processor() - used
    print(
        f"{'octave zoom' if octave else 'zoom'}, 60 frames of 256x256: {used:.0f} s of processor time,"
        f" {expected:.0f} foretold; {took:.0f} s by the clock at a load of {os.getloadavg()[1]:.1f}"
    )
    assert abs(used - expected) <= 0.25 * used
    assert used <= limit


def test_what_a_frame_costs_beside_its_guidance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(tmp_path, size=(256, 256), frames=8, iterations=3, iterations_per_frame="10")
    guided = [0.0]
    step = Painter.step

    def timed(self: Painter) -> dict[str, float]:
        started = time.perf_counter()
        found = step(self)
        guided[0] += time.perf_counter() - started
        return found

    while not job.done:
        job.step()
    monkeypatch.setattr(Painter, "step", timed)
    started = time.perf_counter()
    pictures = run(job)
    whole = time.perf_counter() - started
    share = (whole - guided[0]) / guided[0]
    print(f"beside guidance: {share:.1%} of it, {(whole - guided[0]) / (len(pictures) - 1) * 1000:.0f} ms a frame")
    assert share <= 0.15


@pytest.mark.parametrize("prompt", ["a castle", "a sunflower"])
def test_steadier_than_the_published_loop_and_no_less_sharp(tmp_path: Path, prompt: str) -> None:
    fields = {"prompt": prompt, "size": (160, 160), "frames": 24, "iterations": 60, "grids": 16, **STORED}
    found = {}
    for name, extra in (("published", PUBLISHED), ("ours", {})):
        pictures = run(job_of(tmp_path / name, **fields, **extra))[1:]
        found[name] = unsteadiness(pictures), sharpness(pictures)
    octave = run(job_of(tmp_path / "octave", **{**fields, "octave_zoom": True, "angle": "0", "translation_x": "0"}))
    found["octave zoom"] = unsteadiness(octave), sharpness(octave)
    for name, (steady, sharp) in found.items():
        print(f"{prompt}, {name}: neighbours differ by {steady:.2f}, variance of the Laplacian {sharp:.0f}")
    published, ours = found["published"], found["ours"]
    assert ours[0] <= 0.7 * published[0] and ours[1] >= published[1]
    assert found["octave zoom"][0] <= 0.2 * published[0]


@pytest.mark.parametrize("seed", [1, 2])
def test_a_loop_steps_no_farther_over_its_seam(tmp_path: Path, seed: int) -> None:
    wish = {"prompt": "a red apple", "seed": seed, "size": (96, 96), "frames": 24, "iterations": 40, "grids": 8}
    pictures = [picture.astype(float) for picture in run(job_of(tmp_path, loop=True, **wish))]
    median = float(np.median([np.abs(a - b).mean() for a, b in pairwise(pictures)]))
    seam = np.abs(pictures[-1] - pictures[0]).mean()
    print(f"seed {seed}: {seam:.2f} of 255 over the seam, the median between neighbours {median:.2f}")
    assert seam <= median


def test_300_frames_take_no_more_memory_than_30(tmp_path: Path) -> None:
    program = (
        "import resource, sys; sys.path.insert(0, {tests!r})\n"
        "from pathlib import Path; from test_animation import job_of\n"
        "job = job_of(Path({folder!r}), size=(64, 64), frames={frames}, iterations=3, grids=2, cutouts=2,"
        " iterations_per_frame='1')\nwhile job.position < job.total: job.step()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for frames in (30, 300):
        text = program.format(tests=str(Path(__file__).parent), folder=str(tmp_path / str(frames)), frames=frames)
        peaks.append(int(subprocess.run([sys.executable, "-c", text], check=True, capture_output=True).stdout) / 1024)
    print(f"most memory: {peaks[0]:.0f} MB for 30 frames, {peaks[1]:.0f} MB for 300")
    assert peaks[1] <= 1.05 * peaks[0]
