"""A queue makes each item once, also after it was killed and beside another queue, and reports files it cannot read."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from PIL import Image

from vqtools.core.job import finish
from vqtools.media.image import load_picture
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


def write_item(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "tonight"
    path.mkdir()
    return path


def painted(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "done").glob("*.png") if path.name != "report.png"}


def test_files_become_pictures_once_and_are_reported(folder: Path) -> None:
    write_item(folder, "a.json", {"prompt": "a red apple", "seed": 1, **QUICK})
    lines = "\n".join(f"{name}: {json.dumps(value)}" for name, value in QUICK.items())
    write_item(folder, "b.yaml", f"prompt: a | b:0.5\nseed: 5\ntimes: 2\n{lines}\n")
    write_item(folder, "bad.json", '{"prompt": ')
    write_item(folder, "wrong.yml", "prompt: x\niteratoins: 3\n")
    (folder / "plain.png").write_bytes(b"no picture")
    (folder / "readme.txt").write_text("not an item")
    messages: list[str] = []
    assert queue.Queue(folder, notify=messages.append).run(progress=False)
    first = painted(folder)
    assert sorted(first) == ["a-b-0-5-5.png", "a-b-0-5-6.png", "a-red-apple-1.png"]
    report = (folder / "done" / "report.md").read_text("utf-8")
    assert "3 made, 3 skipped" in report and "[a-red-apple-1.png](<a-red-apple-1.png>)" in report
    assert "did you mean 'iterations'" in report and any("plain.png is skipped" in line for line in messages)
    assert (folder / "done" / "report.png").exists()
    assert not list((folder / ".queue").glob("*.safetensors"))

    assert queue.Queue(folder).run(progress=False)  # makes nothing twice
    assert painted(folder) == first
    write_item(folder, "bad.json", {"prompt": "corrected", "seed": 1, **QUICK})
    assert queue.Queue(folder).run(progress=False)
    assert set(painted(folder)) - set(first) == {"corrected-1.png"}
    assert "2 skipped" in (folder / "done" / "report.md").read_text("utf-8")


def test_an_edited_png_is_reproduced_and_changes_apply_to_every_item(folder: Path, tmp_path: Path) -> None:
    job = create_session(PaintSettings.parse({"prompt": "a star", "seed": 3, **QUICK}))
    job.step()
    job.edit({"prompt": "a moon"})
    job.step()
    save_png(folder / "star.png", job.picture(), job.record())
    assert queue.Queue(folder).run(progress=False)
    again = load_picture(folder / "done" / "a-moon-3.png")
    assert again.tobytes() == job.picture().tobytes()
    assert queue.Queue(folder, changes={"iterations": 1}).run(progress=False)  # other changes make other items
    assert read_record(folder / "done" / "a-moon-3-2.png")["settings"]["iterations"] == 1


def test_an_item_can_be_a_sample(folder: Path) -> None:
    write_item(
        folder, "s.json", {"activity": "sample", "prompt": "a red apple", "size": [64, 64], "seed": 2, "stride": 6}
    )
    assert queue.Queue(folder).run(progress=False)
    assert read_record(folder / "done" / "a-red-apple-2.png")["activity"] == "sample"


def test_a_killed_queue_continues_and_makes_the_same_picture(folder: Path, tmp_path: Path) -> None:
    long = {"prompt": "a red apple", "seed": 1, **QUICK, "iterations": 40, "cutouts": 2}
    write_item(folder, "a.json", long)
    code = (
        "import sys; from vqtools.pipelines import queue; queue._SAVE_SECONDS = 0;"
        "queue.Queue(sys.argv[1]).run(progress=False)"
    )
    first = subprocess.Popen([sys.executable, "-c", code, str(folder)])
    try:
        deadline = time.monotonic() + 120
        while not list((folder / ".queue").glob("*.safetensors")) and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    assert not painted(folder), "the queue must be killed before it ends"
    messages: list[str] = []
    assert queue.Queue(folder, notify=messages.append).run(progress=False)
    assert any("continues at step" in line for line in messages)
    uninterrupted = finish(create_session(PaintSettings.parse(long)))
    assert list(painted(folder)) == ["a-red-apple-1.png"]
    assert load_picture(folder / "done" / "a-red-apple-1.png").tobytes() == uninterrupted.picture().tobytes()


def test_a_picture_saved_just_before_a_kill_is_not_made_twice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_item(folder, "a.json", {"prompt": "a tree", **QUICK})

    class Killed(BaseException):
        pass

    def killed(self: queue.Queue, key: str, status: Any) -> None:
        if status.get("status") == "done":
            raise Killed
        note(self, key, status)

    note = queue.Queue._write_status
    monkeypatch.setattr(queue.Queue, "_write_status", killed)
    with pytest.raises(Killed):
        queue.Queue(folder).run(progress=False)
    before = painted(folder)
    monkeypatch.setattr(queue.Queue, "_write_status", note)
    assert len(before) == 1 and queue.Queue(folder).run(progress=False)
    assert painted(folder).keys() == before.keys()


def test_two_queues_share_the_work(folder: Path) -> None:
    for name in ("a", "b"):
        write_item(folder, f"{name}.json", {"prompt": name, "seed": 1, **QUICK})
    line = queue.Queue(folder)
    held = read_items(folder / "a.json")[0]
    with FileLock(folder / ".queue" / f"{held.key}.lock"):
        assert line.run(progress=False)
    assert list(painted(folder)) == ["b-1.png"]
    assert queue.Queue(folder).run(progress=False)
    assert sorted(painted(folder)) == ["a-1.png", "b-1.png"]


def test_an_untrusted_file_opens_no_other_file(folder: Path) -> None:
    Image.new("RGB", (8, 8)).save(folder / "face.jpg")
    write_item(folder, "a.json", {"prompt": "a", "seed": 1, "init_image": "face.jpg", **QUICK})
    write_item(folder, "b.json", {"prompt": "b", "seed": 1, **QUICK, "vqgan": "../evil.ckpt"})
    write_item(folder, "c.json", {"activity": "sample", "complete": "face.jpg", "seed": 1})
    assert queue.Queue(folder).run(progress=False)
    assert not painted(folder)
    report = (folder / "done" / "report.md").read_text("utf-8")
    assert "3 failed" in report and report.count("--trust-paths") == 3
    (folder / "b.json").unlink(), (folder / "c.json").unlink()
    assert queue.Queue(folder, trusted=True).run(progress=False)  # found beside the item
    assert list(painted(folder)) == ["a-1.png"]


def test_a_preset_measures_no_untrusted_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(queue, "apply_preset", lambda fields: opened.append(fields["vqgan"]) or fields)
    write_item(folder, "a.json", {"prompt": "a", "preset": "draft", "vqgan": "../evil.ckpt"})
    assert queue.Queue(folder).run(progress=False)
    assert not opened and "--trust-paths" in (folder / "done" / "report.md").read_text("utf-8")


def test_the_name_of_a_public_clip_is_not_a_path(folder: Path) -> None:
    write_item(folder, "a.json", {"activity": "sample", "prompt": "a", "clip": "ViT-B-32-quickgelu/nobody", "seed": 1})
    assert queue.Queue(folder).run(progress=False)
    report = (folder / "done" / "report.md").read_text("utf-8")
    assert "1 failed" in report and "--trust-paths" not in report


def test_an_item_that_ends_the_program_three_times_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_item(folder, "a.json", {"prompt": "a", "seed": 1, **QUICK})

    class Killed(BaseException):
        pass

    def fatal(self: Any, *_: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(queue.Queue, "_create_job", fatal)
        for _ in range(3):
            with pytest.raises(Killed):
                queue.Queue(folder).run(progress=False)
        messages: list[str] = []
        assert queue.Queue(folder, notify=messages.append).run(progress=False)
    assert any("ended 3 times" in line for line in messages)


def test_a_stopped_queue_stores_its_progress(folder: Path) -> None:
    write_item(folder, "a.json", {"prompt": "a", "seed": 1, **QUICK, "iterations": 50})
    steps = iter(range(10))
    assert not queue.Queue(folder).run(stop=lambda: next(steps, 10) >= 4, progress=False)
    (status,) = queue.Queue(folder).statuses()
    assert status["status"] == "begun" and 0 < status["position"] < 50


def test_seed_0_of_an_item_is_its_seed(folder: Path) -> None:
    write_item(folder, "a.json", {"prompt": "a", "seed": 0, **QUICK, "iterations": 1})
    assert queue.Queue(folder).run(progress=False)
    assert list(painted(folder)) == ["a-0.png"]


def test_a_status_written_by_0_1_counts(folder: Path) -> None:
    path = write_item(folder, "a.json", {"prompt": "a", "seed": 1, **QUICK})
    (item,) = read_items(path)
    (folder / ".queue").mkdir()
    status = {"file": "a.json", "number": 0, "prompt": "a", "status": "done", "seed": 1, "out": "a-1.png", "total": 2}
    (folder / ".queue" / f"{item.key}.json").write_text(json.dumps(status))
    assert queue.Queue(folder).run(progress=False)
    assert not painted(folder)
