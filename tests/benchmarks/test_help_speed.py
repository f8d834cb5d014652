"""Time of `vqtools --help`, process start included."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import pytest


@pytest.mark.benchmark
@pytest.mark.parametrize("arguments", [["--help"], ["paint", "--help"], ["animate", "--help"]])
def test_help_takes_at_most_half_a_second(arguments: list[str]) -> None:
    seconds = []
    for _ in range(7):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "vqtools", *arguments], check=True, capture_output=True)
        seconds.append(time.perf_counter() - started)
    print(f"vqtools {' '.join(arguments)}: {statistics.median(seconds):.2f} s")
    assert statistics.median(seconds) <= 0.5
