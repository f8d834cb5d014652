"""How long a person waits for `vqtools --help`."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import pytest


@pytest.mark.benchmark
@pytest.mark.parametrize("arguments", [["--help"], ["paint", "--help"], ["animate", "--help"]])
def test_help_within_half_a_second(arguments: list[str]) -> None:
    times = []
    for _ in range(7):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "vqtools", *arguments], check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    print(f"vqtools {' '.join(arguments)}: {statistics.median(times):.2f} s")
    assert statistics.median(times) <= 0.5
