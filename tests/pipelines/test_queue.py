"""A folder of wishes: made once each, also after a kill, also by two queues; what is none is named and passed over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from vqtools.cli.main import main
from vqtools.core.errors import UserError
from vqtools.media.image import load_picture, to_picture
from vqtools.media.png_record import read_record, save_png
from vqtools.painting.settings import PaintSettings
from vqtools.pipelines import queue
from vqtools.pipelines.paint import create_session
from vqtools.pipelines.queue_files import read_items

QUICK: dict[str, Any] = {
    "size": "64x64",
    "iterations": 2,
    "cutouts": 1,
    "grids": 1,
    "augment": "",
    "transformer": "none",
}


def wish(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "tonight"
    made.mkdir()
    return made


def painted(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "done").glob("*.png") if path.name != "report.png"}


def test_files_become_pictures_once_and_the_report_says_so(folder: Path) -> None:
    wish(folder, "a.json", {"prompt": "a red apple", "seed": 1, **QUICK})
    lines = "\n".join(f"{name}: {json.dumps(value)}" for name, value in QUICK.items())
    wish(folder, "b.yaml", f"prompt: a | b:0.5\nseed: 5\ntimes: 2\n{lines}\n")
    wish(folder, "bad.json", '{"prompt": ')
    wish(folder, "wrong.yml", "prompt: x\niteratoins: 3\n")
    (folder / "plain.png").write_bytes(b"no picture")
    (folder / "readme.txt").write_text("not a wish")
    said: list[str] = []
    assert queue.Queue(folder, say=said.append).run(progress=False)
    first = painted(folder)
    assert sorted(first) == ["a-b-0-5-5.png", "a-b-0-5-6.png", "a-red-apple-1.png"]
    report = (folder / "done" / "report.md").read_text("utf-8")
    assert "3 made, 3 passed over" in report and "[a-red-apple-1.png](<a-red-apple-1.png>)" in report
    assert "did you mean 'iterations'" in report and any("plain.png is passed over" in line for line in said)
    assert (folder / "done" / "report.png").exists()
    assert not list((folder / ".queue").glob("*.safetensors"))

    assert queue.Queue(folder).run(progress=False)  # nothing twice
    assert painted(folder) == first
    wish(folder, "bad.json", {"prompt": "mended", "seed": 1, **QUICK})
    assert queue.Queue(folder).run(progress=False)
    assert set(painted(folder)) - set(first) == {"mended-1.png"}
    assert "2 passed over" in (folder / "done" / "report.md").read_text("utf-8")


def test_a_steered_png_is_made_again_as_it_was_and_changes_are_for_all(folder: Path, tmp_path: Path) -> None:
    job = create_session(PaintSettings.parse({"prompt": "a star", "seed": 3, **QUICK}))
    job.step()
    job.edit({"prompt": "a moon"})
    job.step()
    save_png(folder / "star.png", job.picture(), job.record())
    assert queue.Queue(folder).run(progress=False)
    again = load_picture(folder / "done" / "a-moon-3.png")
    assert again.tobytes() == job.picture().tobytes()
    assert queue.Queue(folder, changes={"iterations": 1}).run(progress=False)  # other changes, other wishes
    assert read_record(folder / "done" / "a-moon-3-2.png")["settings"]["iterations"] == 1


def test_a_sample_is_drawn_too(folder: Path) -> None:
    wish(folder, "s.json", {"activity": "sample", "prompt": "a red apple", "size": [64, 64], "seed": 2, "stride": 6})
    assert queue.Queue(folder).run(progress=False)
    assert read_record(folder / "done" / "a-red-apple-2.png")["activity"] == "sample"


def test_killed_and_started_again_it_goes_on_and_makes_the_same(folder: Path, tmp_path: Path) -> None:
    long = {"prompt": "a red apple", "seed": 1, **QUICK, "iterations": 40, "cutouts": 2}
    wish(folder, "a.json", long)
    code = (
        "import sys; from vqtools import queueing; queueing._SAVE_SECONDS = 0;"
        "queueing.Queue(sys.argv[1]).run(progress=False)"
    )
    first = subprocess.Popen([sys.executable, "-c", code, str(folder)])
    try:
        deadline = time.monotonic() + 120
        while not list((folder / ".queue").glob("*.safetensors")) and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    assert not painted(folder), "it was to be killed half way"
    said: list[str] = []
    assert queue.Queue(folder, say=said.append).run(progress=False)
    assert any("goes on at step" in line for line in said)
    straight = create_session(PaintSettings.parse(long))
    while straight.position < straight.total:
        straight.step()
    assert list(painted(folder)) == ["a-red-apple-1.png"]
    assert load_picture(folder / "done" / "a-red-apple-1.png").tobytes() == straight.picture().tobytes()


def test_a_picture_saved_just_before_the_kill_is_not_made_twice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wish(folder, "a.json", {"prompt": "a tree", **QUICK})

    class Killed(BaseException):
        pass

    def killed(self: queue.Queue, key: str, told: Any) -> None:
        if told.get("status") == "done":
            raise Killed
        note(self, key, told)

    note = queue.Queue._note
    monkeypatch.setattr(queue.Queue, "_note", killed)
    with pytest.raises(Killed):
        queue.Queue(folder).run(progress=False)
    before = painted(folder)
    monkeypatch.setattr(queue.Queue, "_note", note)
    assert len(before) == 1 and queue.Queue(folder).run(progress=False)
    assert painted(folder).keys() == before.keys()


def test_two_queues_share_the_work(folder: Path) -> None:
    for name in ("a", "b"):
        wish(folder, f"{name}.json", {"prompt": name, "seed": 1, **QUICK})
    line = queue.Queue(folder)
    held = read_items(folder / "a.json")[0]
    with FileLock(folder / ".queue" / f"{held.key}.lock"):
        assert line.run(progress=False)
    assert list(painted(folder)) == ["b-1.png"]
    assert queue.Queue(folder).run(progress=False)
    assert sorted(painted(folder)) == ["a-1.png", "b-1.png"]


def test_a_strangers_file_opens_no_other_file_unasked(folder: Path) -> None:
    to_picture(__import__("torch").zeros(3, 8, 8)).save(folder / "face.jpg")
    wish(folder, "a.json", {"prompt": "a", "seed": 1, "init_image": "face.jpg", **QUICK})
    wish(folder, "b.json", {"prompt": "b", "seed": 1, **QUICK, "vqgan": "../evil.ckpt"})
    wish(folder, "c.json", {"activity": "sample", "complete": "face.jpg", "seed": 1})
    assert queue.Queue(folder).run(progress=False)
    assert not painted(folder)
    report = (folder / "done" / "report.md").read_text("utf-8")
    assert "3 failed" in report and report.count("--trust-paths") == 3
    (folder / "b.json").unlink(), (folder / "c.json").unlink()
    assert queue.Queue(folder, trusted=True).run(progress=False)  # beside the wish
    assert list(painted(folder)) == ["a-1.png"]


def test_a_preset_measures_no_network_that_only_a_stranger_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(queue.presets, "fitted", lambda fields: opened.append(fields["vqgan"]) or fields)
    wish(folder, "a.json", {"prompt": "a", "preset": "draft", "vqgan": "../evil.ckpt"})
    assert queue.Queue(folder).run(progress=False)
    assert not opened and "--trust-paths" in (folder / "done" / "report.md").read_text("utf-8")


def test_a_public_clip_by_its_name_is_no_file(folder: Path) -> None:
    wish(folder, "a.json", {"activity": "sample", "prompt": "a", "clip": "ViT-B-32-quickgelu/nobody", "seed": 1})
    assert queue.Queue(folder).run(progress=False)
    report = (folder / "done" / "report.md").read_text("utf-8")
    assert "1 failed" in report and "--trust-paths" not in report


def test_a_wish_that_ends_the_program_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wish(folder, "a.json", {"prompt": "a", "seed": 1, **QUICK})

    class Killed(BaseException):
        pass

    def fatal(self: Any, *_: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(queue.Queue, "_job", fatal)
        for _ in range(3):
            with pytest.raises(Killed):
                queue.Queue(folder).run(progress=False)
        said: list[str] = []
        assert queue.Queue(folder, say=said.append).run(progress=False)
    assert any("ended 3 times" in line for line in said)


def test_stopped_it_keeps_what_is_made(folder: Path) -> None:
    wish(folder, "a.json", {"prompt": "a", "seed": 1, **QUICK, "iterations": 50})
    steps = iter(range(10))
    assert not queue.Queue(folder).run(stop=lambda: next(steps, 10) >= 4, progress=False)
    (told,) = queue.Queue(folder).all()
    assert told["status"] == "begun" and 0 < told["position"] < 50


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.json", "[1]", "settings by name"),
        ("a.json", "[]", "0 pictures"),
        ("a.json", '{"prompt": "x", "times": 1000}', "times 1000"),
        ("a.json", '{"activity": "animate"}', "can paint and sample"),
        ("a.json", "[" * 100_000, "nested"),
        ("a.yaml", "a: &a [x, x]\nprompt: *a\n", "aliases"),
        ("a.yaml", "prompt: [", "YAML"),
        ("a.yaml", "!!python/object/apply:os.system ['echo']", "YAML"),
        ("a.json", " " * 2**21, "megabyte"),
    ],
)
def test_a_file_that_is_no_wish_is_one_line(folder: Path, name: str, content: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        read_items(wish(folder, name, content))
    assert "\n" not in str(error.value)


def test_the_command_says_what_it_did(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wish(folder, "a.json", {"prompt": "a", "seed": 1, **QUICK})

    def call(*arguments: str) -> int:
        with pytest.raises(SystemExit) as left:
            main(["queue", *arguments])
        return int(left.value.code or 0)

    assert call(str(folder), "--set", "iterations=1") == 0
    out = capsys.readouterr().out
    assert "a-1.png  64×64  1 of 1" in out and "1 made" in out
    assert call(str(folder), "--report") == 0
    assert call(str(folder / "absent")) == 2
    assert call(str(folder), "--out", str(folder)) == 2
    assert call(str(folder), "--set", "iterations") == 2
    assert os.listdir(folder / "done")
