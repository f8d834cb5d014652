"""Untrusted and broken input that no other test covers; docs/hostile.md lists all of it.

In every case: one line and exit code 2, no code run, nothing written outside the folder, no finished work lost.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save_file

from tests.cli.conftest import run_command
from vqtools.animation.project import Project
from vqtools.core.errors import UserError
from vqtools.core.paths import file_stem
from vqtools.core.state_file import load_state
from vqtools.media.image import load_picture
from vqtools.media.png_record import read_record, save_png
from vqtools.painting.settings import PaintSettings
from vqtools.training.image_dataset import ImageDataset, find_pictures
from vqtools.training.run_folder import RunFolder
from vqtools.ui import Form, PaintPanel
from vqtools.weights.model_file import read_vqgan

MARKUP = '<img src=x onerror="alert(1)"><script>alert(2)</script>'


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder inside another one, where a file written outside would be found."""
    folder = tmp_path / "outer" / "here"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("VQTOOLS_QUICK", "1")
    return folder


# Model files.


def _safetensors(header: dict[str, Any], data: bytes = b"\0" * 16, length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    "content",
    [
        _safetensors({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, length=1 << 40),
        _safetensors({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 16]}}),
        _safetensors({"a": {"dtype": "F32", "shape": [1 << 62, 1 << 62], "data_offsets": [0, 16]}}),
        _safetensors({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 1 << 40]}}),
        _safetensors({"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}}),
        _safetensors({"a": {"dtype": "PICKLE", "shape": [4], "data_offsets": [0, 16]}}),
        _safetensors({"__metadata__": {"vqtools": "[" * 100_000}}),
    ],
    ids=["length", "shape", "overflow", "beyond", "backwards", "type", "deep"],
)
def test_a_false_safetensors_header_is_an_error(content: bytes, here: Path) -> None:
    (here / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError):
        read_vqgan(here / "model.safetensors")
    with pytest.raises(UserError):
        load_state(here / "model.safetensors")


def test_a_config_as_large_as_memory_is_refused_before_allocation(here: Path) -> None:
    about = {"kind": "vqgan", "config": {"channels": 1 << 20, "codebook_size": 1 << 40}, "about": {}, "format": 1}
    save_file({"a": torch.zeros(1)}, here / "m.safetensors", metadata={"vqtools": json.dumps(about)})
    before = time.monotonic()
    with pytest.raises(UserError):
        read_vqgan(here / "m.safetensors")
    assert time.monotonic() - before < 20


# Pictures.


def _png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_a_huge_picture_is_refused_by_its_header(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "huge.png").write_bytes(_png(100_000, 100_000))
    assert run_command("paint", "x", "--init-image", "huge.png") == 2
    assert "too large" in capsys.readouterr().err or "at most 178 million" in capsys.readouterr().err
    assert [path.name for path in here.iterdir()] == ["huge.png"]


def test_a_polyglot_is_read_as_its_first_format(here: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(here / "both.png")
    with zipfile.ZipFile(here / "both.png", "a") as archive:  # a picture and a zip in one file
        archive.writestr("../escaped.txt", "x")
        archive.writestr("page.html", MARKUP)
    assert load_picture(here / "both.png").getpixel((0, 0)) == (255, 0, 0)
    gif = b"GIF89a/*" + MARKUP.encode() + b"*/=1;"
    (here / "script.png").write_bytes(gif)
    with pytest.raises(UserError):
        load_picture(here / "script.png")
    assert not (here.parent / "escaped.txt").exists()


# Archives.


def test_a_zip_with_paths_outside_its_folder_is_read_in_place(here: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(here / "a.png")
    with zipfile.ZipFile(here / "climb.zip", "w") as archive:
        for name in ("../../escaped.png", "/tmp/vqtools-escaped.png", "..\\escaped.png"):
            archive.write(here / "a.png", name)
    pictures = find_pictures(here / "climb.zip")
    assert len(pictures) == 3
    assert all(ImageDataset([picture], 8).get(0) is not None for picture in pictures)  # read in place
    assert not list(here.parent.rglob("escaped.png")) and not Path("/tmp/vqtools-escaped.png").exists()


def test_a_zip_bomb_is_skipped_and_named(here: Path) -> None:
    with zipfile.ZipFile(here / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.png", "w") as out:
        for _ in range(300):
            out.write(bytes(1 << 20))
    data = bytearray((here / "bomb.zip").read_bytes())
    pictures = ImageDataset(find_pictures(here / "bomb.zip"), 8)
    assert pictures.get(0) is None and "at most 256" in pictures.broken["a.png"]
    at = data.rindex(b"PK\x01\x02")  # make the zip's directory state a small size
    data[at + 24 : at + 28] = struct.pack("<I", 1000)
    (here / "false.zip").write_bytes(data)
    pictures = ImageDataset(find_pictures(here / "false.zip"), 8)
    assert pictures.get(0) is None and pictures.broken


# Records and settings files.


def _with_record(path: Path, record: Any, text: str | None = None) -> Path:
    info = PngInfo()
    info.add_itxt("vqtools", json.dumps(record) if text is None else text, zip=text is not None)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    return path


def test_a_record_of_fifty_megabytes_is_not_parsed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _with_record(here / "large.png", None, '{"settings": {"prompt": "' + "x" * 50_000_000 + '"}}')
    assert run_command("paint", "--from", "large.png") == 2
    assert "too large" in capsys.readouterr().err


@pytest.mark.parametrize("field", ["complete", "condition", "mask", "vqgan", "transformer"])
def test_an_untrusted_sample_record_opens_no_file(field: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (64, 64)).save(here.parent / "mine.png")
    settings = {"prompt": "x", field: "../mine.png"}
    _with_record(here / "untrusted.png", {"activity": "sample", "settings": settings})
    assert run_command("sample", "--from", "untrusted.png") == 2
    assert "--trust-paths" in capsys.readouterr().err
    assert [path.name for path in here.iterdir()] == ["untrusted.png"]


def test_records_never_choose_where_to_write(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("out", "path", "folder"):
        _with_record(here / "untrusted.png", {"settings": {"prompt": "x", name: "../escaped.png"}})
        assert run_command("paint", "--from", "untrusted.png") == 2
        assert "there is no setting" in capsys.readouterr().err
    assert file_stem("../../escaped", 1) == "escaped-1"
    assert not list(here.parent.glob("escaped*"))


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "{", "[]", '{"settings": 3}', "\0"],
    ids=["deep", "cut", "list", "number", "nul"],
)
def test_a_broken_settings_json_is_one_line(text: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "film").mkdir()
    (here / "film" / "settings.json").write_text(text)
    assert run_command("animate", "--resume", "film") == 2
    assert run_command("train-vqgan", str(here), "--name", "film", "--resume") == 2
    assert capsys.readouterr().err.count("\n") == 2
    assert (here / "film" / "settings.json").read_text() == text


# Prompts.


@pytest.mark.parametrize(
    "prompt",
    [
        "a red apple " * 8_334,
        MARKUP,
        "\U0001f34e\U0001f3f3\ufe0f\u200d\U0001f308 \u202eolleh\u202c \ufeff\xe9",
        "a\nb\rc\td",
    ],
    ids=["long", "markup", "emoji", "lines"],
)
def test_any_prompt_is_painted_and_stored_unchanged(
    prompt: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("paint", prompt, "--seed", "1", "--size", "64x64", "--transformer", "none") == 0
    (path,) = here.glob("*.png")
    assert len(path.name) <= 100 and path.parent == here
    assert read_record(path)["settings"]["prompt"] == prompt


def _html(view: Any) -> list[str]:
    """The HTML of a widget and of all its children."""
    texts = [view.value] if isinstance(view, widgets.HTML) else []
    for child in getattr(view, "children", ()):
        texts += _html(child)
    return texts


def test_markup_is_shown_as_text_in_every_widget(here: Path) -> None:
    record = {"activity": "paint", "settings": {"prompt": MARKUP}}
    save_png(here / "pictures" / "untrusted.png", Image.new("RGB", (8, 8)), record)
    panel = PaintPanel(PaintSettings(prompt=MARKUP), folder=here / "pictures")
    panel.runner.show_error(UserError(MARKUP), MARKUP)
    panel.form.note("vqgan", MARKUP, wrong=True)
    form = Form(PaintSettings(prompt=MARKUP), apart=("prompt",))
    shown = [*_html(panel.view), *_html(form.body)]
    assert any("&lt;img" in text for text in shown)
    assert not [text for text in shown if "<img src=x" in text or "<script" in text]


# Failures.


def test_a_read_only_folder_is_reported_before_the_work(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "file").touch()
    for arguments in (["paint", "x", "--out", "file/a.png"], ["sample", "--out", "file/a.png"]):
        assert run_command(*arguments) == 2
    assert capsys.readouterr().err.count("\n") == 2
    if os.geteuid():  # root can write everywhere
        here.chmod(0o500)
        try:
            assert run_command("paint", "x") == 2
        finally:
            here.chmod(0o700)


def test_a_full_disk_keeps_the_previous_state(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder(here / "run")
    run.begin({"steps": 10})
    run.save(1, {"position": 1})

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises((OSError, UserError)):
        run.save(2, {"position": 2})
    monkeypatch.undo()
    assert run.load() == {"position": 1}
    assert not [path for path in run.folder.iterdir() if path.suffix == ".tmp"]


def test_two_runs_in_one_folder_lose_nothing(here: Path) -> None:
    pictures = [Image.new("RGB", (64, 64), (number, 0, 0)) for number in range(8)]
    threads = [
        threading.Thread(target=save_png, args=(here / "same.png", picture, {"n": picture.getpixel((0, 0))[0]}))
        for picture in pictures
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    saved = list(here.glob("*.png"))
    assert {read_record(path)["n"] for path in saved} == set(range(8)) and len(saved) == 8
    projects = [Project.create(here / "film", {"settings": {}}).folder for _ in range(3)]
    assert [path.name for path in projects] == ["film", "film-2", "film-3"]
    RunFolder(here / "run").begin({})
    with pytest.raises(UserError, match="contains a run"):
        RunFolder(here / "run").begin({})


def test_without_internet_nothing_hangs(here: Path) -> None:
    program = "import vqtools; vqtools.load_clip('ViT-B-32-quickgelu/openai')"
    environment = {**os.environ, "HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    process = subprocess.run([sys.executable, "-m", "vqtools", "weights", "fetch", "lite0"], env=environment,
                         capture_output=True, text=True, check=False, timeout=60)  # fmt: skip
    assert process.returncode == 0  # it is downloaded already
    process = subprocess.run([sys.executable, "-c", program], env={**environment, "HF_HUB_OFFLINE": "1"},
                         capture_output=True, text=True, check=False, timeout=120)  # fmt: skip
    assert "UserError" in process.stderr.splitlines()[-1]


def test_a_clock_set_back_has_no_effect(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(10**9, 0, -1000))
    monkeypatch.setattr(time, "time", lambda: float(next(ticks)))
    assert run_command("paint", "a red apple", "--size", "64x64", "--transformer", "none") == 0
    (first,) = here.glob("*.png")
    os.utime(first, (0, 0))  # older than every other file
    assert run_command("paint", "a red apple", "--size", "64x64", "--transformer", "none") == 0
    assert len(list(here.glob("*.png"))) == 2
