"""Scenes and grids divided among processes: the same results as of one process, and nothing is made twice."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vqtools.animation.settings import AnimateSettings
from vqtools.core.errors import UserError
from vqtools.media.image import load_picture
from vqtools.pipelines.distribute import split_scenes

PROGRAM = Path(__file__).with_name("distribute_run.py")


def run_in_two_processes(folder: Path) -> None:
    """Start two processes as a launcher does: the environment names rank and size."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    shared |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROGRAM.parents[2])}
    running = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), str(folder)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]  # fmt: skip
    for process in running:
        output, _ = process.communicate(timeout=240)
        assert process.returncode == 0, output


def run_in_this_process(folder: Path) -> None:
    spec = importlib.util.spec_from_file_location("distribute_run", PROGRAM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the two processes: other thread counts round sums differently
    try:
        module.main(folder)
    finally:
        torch.set_num_threads(threads)


def pictures(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): load_picture(path).tobytes() for path in sorted(folder.rglob("*.png"))}


def test_two_processes_make_what_one_makes_and_nothing_twice(tmp_path: Path) -> None:
    two, one = tmp_path / "two", tmp_path / "one"
    two.mkdir()
    one.mkdir()
    run_in_two_processes(two)
    run_in_this_process(one)
    output = [(two / f"process-{rank}.txt").read_text().splitlines() for rank in (0, 1)]
    assert [lines[:2] for lines in output] == [["2", "8 5"], ["2", "8 5"]]
    names = [name for lines in output for name in lines[2:]]
    assert len(names) == len(set(names)) == 8 + 5 and all(len(lines) > 4 for lines in output)
    assert pictures(two) == pictures(one) and set(names) == set(pictures(two))
    (two / "grid-02.png").unlink()
    run_in_this_process(two)  # continued by one process: existing results are not made again
    assert (two / "process-0.txt").read_text().splitlines() == ["1", "8 5", "grid-02.png"]
    assert pictures(two) == pictures(one)


def test_scenes_share_the_frames_evenly() -> None:
    scenes = split_scenes(AnimateSettings(prompt="a ^ b ^ c", frames=10, seed=7))
    assert [(scene.prompt, scene.frames, scene.seed) for scene in scenes] == [("a", 3, 7), ("b", 3, 8), ("c", 4, 9)]
    for wrong in ({"prompt": "a"}, {"prompt": "a ^ b", "scene_frames": 5}, {"prompt": "a ^ b ^ c", "frames": 2}):
        with pytest.raises(UserError):
            split_scenes(AnimateSettings(**wrong))
