"""The commands of docs/whole-way.md: from forty pictures to a video, each of the five commands killed once.

Takes minutes, so only CI runs it, by its mark.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import imageio_ffmpeg
import pytest

from vqtools.media.image import load_picture
from vqtools.media.png_record import read_record

ROOT = Path(__file__).parents[2]


def commands() -> tuple[list[list[str]], list[list[str]]]:
    """Return the two lists of commands on the page: those that start, and those that continue."""
    page = (ROOT / "docs/whole-way.md").read_text("utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    starting, continuing = ([shlex.split(line) for line in block.splitlines()] for block in blocks)
    return starting, continuing


def start(words: list[str], folder: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """Start a command in a folder; return the process and the file that receives its output."""
    output = folder / "output.txt"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "VQTOOLS_HOME": str(folder / "home"), "PYTHONUNBUFFERED": "1"}
    with open(output, "wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", *words], cwd=folder, env=environment, stdout=stream, stderr=subprocess.STDOUT
        )
    return process, output


def kill_in_the_middle(words: list[str], folder: Path) -> None:
    """Start a command and kill its process after some steps."""
    process, output = start(words, folder)
    steps = re.compile(rb"\| *([0-9]+)/([0-9]+) \[")
    end = time.monotonic() + 300
    while time.monotonic() < end:
        assert process.poll() is None, f"{words} ended before it could be killed: {output.read_text('utf-8')}"
        positions = steps.findall(output.read_bytes())
        if positions and 2 <= int(positions[-1][0]) < int(positions[-1][1]):
            process.send_signal(signal.SIGKILL)
            process.wait()
            return
        time.sleep(0.02)
    process.kill()
    pytest.fail(f"{words} took no step: {output.read_text('utf-8')}")


@pytest.mark.slow
def test_forty_pictures_become_a_video_although_every_command_is_killed_once(tmp_path: Path) -> None:
    shutil.copy(ROOT / "notebooks/watercolours.zip", tmp_path)
    starting, continuing = commands()
    names = [words[1] for words in starting]
    assert names == ["train-vqgan", "train-transformer", "sample", "paint", "animate"]
    assert names == [words[1] for words in continuing]
    started, before = time.monotonic(), os.times()
    for first, second in zip(starting, continuing, strict=True):
        kill_in_the_middle(first, tmp_path)
        assert not list(tmp_path.glob("*.png.tmp")), "half a picture"
        process, output = start(second, tmp_path)
        assert process.wait(600) == 0, (second, output.read_text("utf-8"))
    assert (tmp_path / "home/mine.safetensors").exists() and (tmp_path / "home/mine-words.safetensors").exists()
    for name in ("sample.png", "painted.png"):
        assert load_picture(tmp_path / name).size == (128, 128)
        assert read_record(tmp_path / name)["settings"]["vqgan"] == "mine"
    frames = sorted((tmp_path / "film/frames").glob("frame-*.png"))
    assert len(frames) == 4 and all(load_picture(frame).size == (128, 128) for frame in frames)
    count, _ = imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "film/film.mp4"))
    assert count == 4
    after = os.times()
    processor_seconds = after.children_user + after.children_system - before.children_user - before.children_system
    print(f"all commands: {time.monotonic() - started:.0f} s, {processor_seconds:.0f} s of processor time")
    assert processor_seconds < 600
