"""`vqtools animate` with the models that ship: folder, frames, video, estimate, resume, dry run, octave zoom."""

from __future__ import annotations

import json
import os
import re
import signal
import wave
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import vqtools
from vqtools.animation.animator import Animator
from vqtools.animation.project import Project
from vqtools.cli.main import main
from vqtools.media.image import load_picture
from vqtools.media.png_record import read_record
from vqtools.pipelines import animate, paint
from vqtools.pipelines.animate import estimate_animation

TINY = ["--size", "64x64", "-i", "3", "--cutouts", "2", "--grids", "2", "--iterations-per-frame", "1", "--seed", "4"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert isinstance(left.value.code, int)
    return left.value.code


def shots(folder: str) -> list[bytes]:
    return [load_picture(path).tobytes() for path in sorted(Path(folder, "frames").glob("frame-*.png"))]


def count(path: str) -> int:
    with av.open(path) as file:
        return sum(1 for _ in file.decode(video=0))


def test_animate_writes_frames_settings_and_a_video(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("animate", "a forest ^ a sea", "--frames", "4", *TINY) == 0
    output = capsys.readouterr()
    assert re.search(r"4 frames, about \d+:\d\d min, \d+ MB", output.err)
    assert "a-forest-a-sea-4.mp4 (4 frames, 64x64" in output.out
    folder = Path("a-forest-a-sea-4")
    assert count(str(folder / "a-forest-a-sea-4.mp4")) == 4
    record = read_record(folder / "frames" / "frame-00003.png")
    assert record["models"]["vqgan"]["sha256"] and record["frame"] == 3 and record["shown"] != "a forest"
    assert json.loads((folder / "settings.json").read_text())["settings"]["frames"] == 4
    assert vqtools.animate("a forest ^ a sea", out="again", size=(64, 64), iterations=3, cutouts=2, grids=2, frames=4,
                           iterations_per_frame="1", seed=4) == Path("again")  # fmt: skip
    assert shots("again") == shots(str(folder))


def test_ctrl_c_keeps_frames_and_resume_makes_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("animate", "a forest", "--frames", "5", *TINY, "--out", "whole") == 0
    step = Animator.step

    def interrupted(self: Animator) -> dict[str, float]:
        if self.done == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Animator, "step", interrupted)
        assert call("animate", "a forest", "--frames", "5", *TINY, "--out", "half") == 130
    assert "stopped after 3 of 5 frames; continue with: vqtools animate --resume half" in capsys.readouterr().err
    assert count("half/half.mp4") == 3
    assert call("animate", "--resume", "half") == 0
    assert shots("half") == shots("whole") and count("half/half.mp4") == 5
    assert call("animate", "--resume", "half", "--rewind", "2", "--angle", "20", "--frames", "6") == 0
    other = shots("half")
    assert other[:3] == shots("whole")[:3] and len(other) == 6 and other[3] != shots("whole")[3]
    capsys.readouterr()
    assert call("animate", "--resume", "half", "--seed", "9") == 2
    assert "--seed can't change" in capsys.readouterr().err


def test_an_octave_zoom_resumes_and_rewinds(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--octave-zoom", "--zoom", "1.5", "--frames", "4", *TINY, "--out", "zoom"]
    assert call("animate", "a castle ^ a forest", *flags) == 0
    octaves = sorted(path.name for path in Path("zoom/octaves").iterdir())
    assert octaves == [f"octave-00{k}.png" for k in range(3)]  # 1.5^3 is 1.8 doublings
    assert len(shots("zoom")) == count("zoom/zoom.mp4") == 4
    prompts = [read_record(Path("zoom/octaves") / name)["shown"] for name in octaves]
    assert prompts == ["a castle", "a forest", "a castle"]
    before = shots("zoom")
    Path("zoom/frames/frame-00003.png").unlink()
    assert call("animate", "--resume", "zoom") == 0
    assert shots("zoom") == before
    assert call("animate", "--resume", "zoom", "--zoom", "1.1") == 2
    capsys.readouterr()
    assert call("animate", "the blue sea", "--resume", "zoom", "--rewind", "2", "--zoom", "1.1") == 2
    assert call("animate", "the blue sea", "--resume", "zoom") == 2  # pictures were painted with another prompt
    assert shots("zoom") == before and "omit it, or start a new folder" in capsys.readouterr().err
    kept = [(Path("zoom/octaves") / name).read_bytes() for name in octaves[1:]]
    assert call("animate", "the blue sea", "--resume", "zoom", "--rewind", "2") == 0
    assert "2 frames are left; 1 of 3 pictures will be painted again" in capsys.readouterr().err
    assert shots("zoom")[:2] == before[:2] and shots("zoom")[2:] != before[2:] and count("zoom/zoom.mp4") == 4
    assert kept == [(Path("zoom/octaves") / name).read_bytes() for name in octaves[1:]]
    assert read_record(Path("zoom/octaves") / octaves[0])["shown"] == "the blue sea"


def test_a_folder_in_use_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"prompt": "a forest", "size": [64, 64], "seed": 4}
    with Project.create("film", {"settings": settings}).locked():
        assert call("animate", "--resume", "film") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "folder 'film' is in use by another run; stop that run" in line
    with Project.create("journey/scene-00", {"settings": settings}).locked():
        assert call("animate", "a sea ^ a city", "--apart", "--seed", "4", "--out", "journey") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "folder 'journey/scene-00' is in use by another run" in line


def loudness(path: str, frames: int) -> list[float]:
    """Mean loudness of a video's audio in so many equal parts."""
    with av.open(path) as file:
        samples = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])
    return [float(np.abs(part).mean()) for part in np.array_split(samples, frames)]


def test_separate_scenes_use_their_part_of_the_audio(capsys: pytest.CaptureFixture[str]) -> None:
    rate, fps = 22_050, 8
    with wave.open("late.wav", "wb") as file:  # a second of silence, and one of a low tone
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        tone = np.sin(np.arange(2 * rate) / rate * 80 * 2 * np.pi) * 20_000 * (np.arange(2 * rate) >= rate)
        file.writeframes(tone.astype("<i2").tobytes())
    flags = [*TINY, "--apart", "--frames", "16", "--fps", str(fps), "--audio", "late.wav", "--zoom", "1+0.1*low"]
    assert call("animate", "a forest ^ a sea", *flags, "--out", "journey") == 0
    assert "journey/journey.mp4 (16 frames, 64x64)" in capsys.readouterr().out
    with av.open("journey/journey.mp4") as file:
        video, sound = file.streams.video[0], file.streams.audio[0]
        assert video.duration is not None and float(video.duration * video.time_base) == pytest.approx(2, abs=0.01)
        assert sound.duration is not None and float(sound.duration * sound.time_base) == pytest.approx(2, abs=0.06)
        assert sum(1 for _ in file.decode(video=0)) == 16
    loud = loudness("journey/journey.mp4", 8)
    assert max(loud[:3]) < 0.05 * min(loud[5:]), loud
    zooms = [
        read_record(path)["motion"]["zoom"]
        for scene in ("scene-00", "scene-01")
        for path in sorted(Path("journey", scene, "frames").iterdir())
    ]
    assert max(zooms[:7]) < 1.02 and min(zooms[9:]) > 1.08, zooms  # the tone begins with the second scene
    assert call("animate", "--resume", "journey/scene-01") == 0  # by itself it goes on with its part of the sound
    assert min(loudness("journey/scene-01/scene-01.mp4", 8)[:7]) > 0.5 * max(loud)
    assert call("animate", "a ^ b", "--apart", "--seed", "1", "--audio", "none.wav", "--out", "other") == 2
    assert "audio 'none.wav' is not there" in capsys.readouterr().err and not Path("other").exists()


def test_an_interrupted_estimate_leaves_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[str] = []

    def interrupted(job: Animator) -> Any:
        messages.append(str(estimate(job)))
        raise KeyboardInterrupt

    estimate = estimate_animation
    monkeypatch.setattr(animate, "estimate_animation", interrupted)
    assert call("animate", "a forest", "--frames", "5", *TINY) == 130
    assert messages and not list(Path().iterdir())


@pytest.mark.parametrize("kind", ["tunnel", "octave"])
def test_a_dry_run_needs_no_network(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **keywords: Any) -> None:
        raise AssertionError("a network was loaded")

    monkeypatch.setattr(paint, "create_paint_job", refuse)
    flags = ["--octave-zoom", "--zoom", "1.3"] if kind == "octave" else ["--motion", "tunnel"]
    assert call("animate", "a forest", "--frames", "6", "--size", "48x32", "--seed", "1", "--dry-run", *flags) == 0
    assert count("a-forest-1-dry-run.mp4") == 6
    assert [path.name for path in Path().iterdir()] == ["a-forest-1-dry-run.mp4"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is no prompt"),
        (["a", "b"], "is one argument"),
        (["a", "--zoom", "0:(1.0+)"], "\n  0:(1.0+)\n         ^"),
        (["a", "--zoom", "0"], "frame 0: zoom 0: must be more than 0"),
        (["a", "--size", "100x64"], "width 100 is not a multiple of 8"),
        (["a", "--rewind", "3"], "--rewind needs a folder"),
        (["--resume", "none"], "holds no animation"),
        (["a", "--audio", "none.wav"], "'none.wav' is not there"),
        (["a", "--prompts-at", "0: x, 2"], "a colon"),
    ],
)
def test_invalid_arguments_print_one_line_and_leave_nothing(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("animate", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not list(Path().iterdir())
