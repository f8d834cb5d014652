"""docs/whole-way.md as it stands: forty pictures to a video by the command line, each of the five killed once.

Minutes, so that it is no part of plain pytest: CI runs it by its mark.
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
    """The page's two lists: what makes, and what goes on."""
    page = (ROOT / "docs/whole-way.md").read_text("utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", page, re.S)
    made, resumed = ([shlex.split(line) for line in block.splitlines()] for block in blocks)
    return made, resumed


def start(words: list[str], folder: Path) -> tuple[subprocess.Popen[bytes], Path]:
    told = folder / "told.txt"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "VQTOOLS_HOME": str(folder / "home"), "PYTHONUNBUFFERED": "1"}
    with open(told, "wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *words], cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT
        )
    return process, told


def kill_in_the_middle(words: list[str], folder: Path) -> None:
    """Begin, and end the process by force once it has made some steps."""
    process, told = start(words, folder)
    steps = re.compile(rb"\| *([0-9]+)/([0-9]+) \[")
    end = time.monotonic() + 300
    while time.monotonic() < end:
        assert process.poll() is None, f"{words} ended before it could be killed: {told.read_text('utf-8')}"
        found = steps.findall(told.read_bytes())
        if found and 2 <= int(found[-1][0]) < int(found[-1][1]):
            process.send_signal(signal.SIGKILL)
            process.wait()
            return
        time.sleep(0.02)
    process.kill()
    pytest.fail(f"{words} took no step: {told.read_text('utf-8')}")


@pytest.mark.slow
def test_forty_pictures_become_a_video_and_every_stage_survives_being_killed(tmp_path: Path) -> None:
    shutil.copy(ROOT / "notebooks/watercolours.zip", tmp_path)
    made, resumed = commands()
    verbs = [words[1] for words in made]
    assert verbs == ["train-vqgan", "train-transformer", "sample", "paint", "animate"]
    assert verbs == [words[1] for words in resumed]
    started, before = time.monotonic(), os.times()
    for begin, go_on in zip(made, resumed, strict=True):
        kill_in_the_middle(begin, tmp_path)
        assert not list(tmp_path.glob("*.png.tmp")), "half a picture"
        process, told = start(go_on, tmp_path)
        assert process.wait(600) == 0, (go_on, told.read_text("utf-8"))
    assert (tmp_path / "home/mine.safetensors").exists() and (tmp_path / "home/mine-words.safetensors").exists()
    for name in ("sample.png", "painted.png"):
        assert load_picture(tmp_path / name).size == (128, 128)
        assert read_record(tmp_path / name)["settings"]["vqgan"] == "mine"
    frames = sorted((tmp_path / "film/frames").glob("frame-*.png"))
    assert len(frames) == 4 and all(load_picture(frame).size == (128, 128) for frame in frames)
    count, _ = imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "film/film.mp4"))
    assert count == 4
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    print(f"the whole way: {time.monotonic() - started:.0f} s, {spent:.0f} s of processor time")
    assert spent < 600
