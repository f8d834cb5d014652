"""The starters' figures. The held-out shard is not in the project: VQTOOLS_DATA names the folder that holds it.

VQTOOLS_DATA=FOLDER pytest -m benchmark -s tests/benchmarks
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


def test_a_picture_within_a_minute(tmp_path: Path) -> None:
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "vqtools", "paint", "a red apple", "--seed", "1"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    took = time.perf_counter() - started
    print(f"vqtools paint, start to PNG: {took:.1f} s")
    assert (tmp_path / "a-red-apple-1.png").exists()
    assert took <= 60


def test_the_first_preview_within_fifteen_seconds() -> None:
    code = (
        "import time; t = time.perf_counter(); from vqtools import studio;"
        "from vqtools.painting.settings import PaintSettings;"
        "job = studio.painting(PaintSettings(seed=1)); job.step(); job.preview(); print(time.perf_counter() - t)"
    )
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    print(f"first picture of a painting: {float(answer):.1f} s")
    assert float(answer) <= 15


def test_figures_on_the_held_out_shard() -> None:
    from recipes.measure import measure

    found = measure(Path(os.environ["VQTOOLS_DATA"]))
    print(json.dumps(found, indent=1))
    for size in ("vqgan at 64 px", "vqgan at 112 px"):
        assert found[size]["psnr"] >= 21
        assert found[size]["codes used"] >= 0.8
    assert found["clip"]["recall@1"] >= 0.40
