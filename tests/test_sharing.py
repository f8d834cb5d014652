"""Scenes and grids shared by processes: everything is made, nothing twice, and it is what one process makes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from vqtools import media, sharing
from vqtools.animation.settings import AnimateSettings
from vqtools.settings import UserError

PROGRAM = Path(__file__).with_name("sharing_run.py")


def launched(folder: Path, processes: int = 1) -> None:
    """As a launcher does: each process is told which of how many it is."""
    folder.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROGRAM.parents[1])}
    if processes > 1:
        shared |= {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    running = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), str(folder)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else shared,
        )
        for rank in range(processes)
    ]  # fmt: skip
    for process in running:
        said, _ = process.communicate(timeout=240)
        assert process.returncode == 0, said


def pictures(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): media.load_picture(path).tobytes() for path in sorted(folder.rglob("*.png"))}


def test_two_processes_make_what_one_makes_and_no_frame_twice(tmp_path: Path) -> None:
    two, one = tmp_path / "two", tmp_path / "one"
    launched(two, 2)
    launched(one)
    said = [(two / f"process-{rank}.txt").read_text().splitlines() for rank in (0, 1)]
    assert [lines[:2] for lines in said] == [["2", "8 5"], ["2", "8 5"]]
    made = [name for lines in said for name in lines[2:]]
    assert len(made) == len(set(made)) == 8 + 5 and all(len(lines) > 4 for lines in said)
    assert pictures(two) == pictures(one) and set(made) == set(pictures(two))
    (two / "grid-02.png").unlink()
    launched(two)  # gone on with by one: what is there is not made again
    assert (two / "process-0.txt").read_text().splitlines() == ["1", "8 5", "grid-02.png"]
    assert pictures(two) == pictures(one)


def test_scenes_share_the_frames() -> None:
    parts = sharing.scenes(AnimateSettings(prompt="a ^ b ^ c", frames=10, seed=7))
    assert [(one.prompt, one.frames, one.seed) for one in parts] == [("a", 3, 7), ("b", 3, 8), ("c", 4, 9)]
    for wrong in ({"prompt": "a"}, {"prompt": "a ^ b", "scene_frames": 5}, {"prompt": "a ^ b ^ c", "frames": 2}):
        with pytest.raises(UserError):
            sharing.scenes(AnimateSettings(**wrong))
