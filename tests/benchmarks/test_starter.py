"""Speed and quality of the starter models.

    VQTOOLS_DATA=FOLDER pytest -m benchmark -s tests/benchmarks/test_starter.py

VQTOOLS_DATA is the folder of the held-out shard, which is not part of the project.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.benchmark


def test_painting_a_picture_takes_at_most_a_minute(tmp_path: Path) -> None:
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "vqtools", "paint", "a red apple", "--seed", "1"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    print(f"vqtools paint, start to PNG: {seconds:.1f} s")
    assert (tmp_path / "a-red-apple-1.png").exists()
    assert seconds <= 60


def test_the_first_preview_takes_at_most_fifteen_seconds() -> None:
    code = (
        "import time; started = time.perf_counter(); from vqtools.pipelines.paint import create_paint_job;"
        "from vqtools.painting.settings import PaintSettings;"
        "job = create_paint_job(PaintSettings(seed=1)); job.step(); job.preview(); print(time.perf_counter() - started)"
    )
    seconds = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    print(f"first preview of a painting: {float(seconds):.1f} s")
    assert float(seconds) <= 15


def test_quality_on_the_held_out_shard() -> None:
    from recipes.measure import measure

    measured = measure(Path(os.environ["VQTOOLS_DATA"]))
    print(json.dumps(measured, indent=1))
    for size in ("vqgan at 64 px", "vqgan at 112 px"):
        assert measured[size]["psnr"] >= 21
        assert measured[size]["codes used"] >= 0.8
    assert measured["clip"]["recall@1"] >= 0.40
