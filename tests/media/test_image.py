"""Pictures in and out, and the record inside a PNG."""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from vqtools.core.errors import UserError
from vqtools.core.files import check_writable
from vqtools.core.paths import file_stem
from vqtools.media.image import load_picture, resize_and_crop, to_picture, to_tensor
from vqtools.media.png_record import read_record, save_png


def noise(width: int = 5, height: int = 3) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def pixel(picture: Image.Image) -> Any:
    return picture.getpixel((0, 0))


def test_tensor_and_back_is_exact() -> None:
    every = Image.fromarray(np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3))
    tensor = to_tensor(every)
    assert tensor.shape == (1, 3, 16, 16) and tensor.min() == -1 and tensor.max() == 1
    assert to_picture(tensor).tobytes() == every.tobytes()
    assert to_picture(tensor[0]).tobytes() == every.tobytes()


def test_values_outside_are_clipped_and_nan_is_refused() -> None:
    assert pixel(to_picture(torch.tensor([9.0, -9.0, 0.0]).reshape(3, 1, 1))) == (255, 0, 128)
    with pytest.raises(ValueError, match="NaN"):
        to_picture(torch.full((3, 1, 1), float("nan")))
    with pytest.raises(ValueError, match="no picture"):
        to_picture(torch.zeros(2, 3, 4, 4))


def test_fit_covers_without_squeezing() -> None:
    wide = Image.new("RGB", (40, 10), "red")
    wide.paste("blue", (15, 0, 25, 10))
    square = resize_and_crop(wide, (10, 10))
    assert square.size == (10, 10)
    assert np.asarray(square)[:, 2:8, 2].min() > 240


def test_every_kind_of_file_becomes_rgb(tmp_path: Path) -> None:
    red = (255, 0, 0)
    half = Image.new("RGBA", (2, 2), (*red, 0))
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([*red, 0, 0, 0])
    deep = Image.fromarray(np.full((2, 2), 65535, dtype=np.uint16))
    cases: list[tuple[Image.Image, str, Any]] = [
        (half, "clear.png", (255, 255, 255)),
        (palette, "palette.gif", red),
        (Image.new("CMYK", (2, 2), (0, 0, 0, 255)), "ink.tif", (0, 0, 0)),
        (deep, "deep.png", (255, 255, 255)),
        (Image.fromarray(np.full((2, 2), 0.5, dtype=np.float32)), "float.tif", (128, 128, 128)),
        (Image.new("1", (2, 2), 1), "bit.png", (255, 255, 255)),
        (Image.new("LA", (2, 2), (0, 255)), "grey.png", (0, 0, 0)),
    ]
    for picture, name, expected in cases:
        picture.save(tmp_path / name)
        loaded = load_picture(tmp_path / name)
        assert loaded.mode == "RGB" and pixel(loaded) == expected, name


def test_a_transparent_colour_of_an_rgb_png_is_white(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2), (1, 2, 3)).save(tmp_path / "t.png", transparency=(1, 2, 3))
    assert pixel(load_picture(tmp_path / "t.png")) == (255, 255, 255)


def test_the_camera_was_held_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (4, 2)).save(tmp_path / "turned.jpg", exif=exif)
    assert load_picture(tmp_path / "turned.jpg").size == (2, 4)


def test_the_first_frame_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("white", "black")]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    assert pixel(load_picture(tmp_path / "two.gif")) == (255, 255, 255)


def _bomb(path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").touch()
    noise(64, 64).save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:5000])
    _bomb(tmp_path / "bomb.png")
    for name, says in [
        ("text.png", "no picture"), ("empty.png", "no picture"), ("half.png", "broken"), ("bomb.png", "too large"),
        ("absent.png", "not there"), (".", "a folder"),
    ]:  # fmt: skip
        with pytest.raises(UserError, match=says):
            load_picture(tmp_path / name)


@settings(max_examples=25)  # each waits for the disk
@given(
    record=st.dictionaries(
        st.text(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5)
    )
)
def test_a_record_comes_back(tmp_path_factory: pytest.TempPathFactory, record: dict[str, Any]) -> None:
    path = save_png(tmp_path_factory.mktemp("r") / "p.png", noise(), record)
    assert read_record(path) == record
    assert load_picture(path).tobytes() == noise().tobytes()


def test_half_a_surrogate_pair_survives(tmp_path: Path) -> None:
    record = {"prompt": "caf\udce9"}
    assert read_record(save_png(tmp_path / "p.png", noise(), record)) == record


def test_a_picture_is_never_overwritten(tmp_path: Path) -> None:
    names = [save_png(tmp_path / "a.png", noise(), {"n": n}).name for n in range(3)]
    assert names == ["a.png", "a-2.png", "a-3.png"]
    assert read_record(tmp_path / "a.png") == {"n": 0}
    assert save_png(tmp_path / "a.png", noise(), {"n": 9}, overwrite=True).name == "a.png"
    assert read_record(tmp_path / "a.png") == {"n": 9}
    assert len(list(tmp_path.iterdir())) == 3


def test_a_disk_without_hard_links_keeps_pictures_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    names = [save_png(tmp_path / "a.png", noise(), {"n": n}).name for n in range(3)]
    assert names == ["a.png", "a-2.png", "a-3.png"]
    assert read_record(tmp_path / "a-2.png") == {"n": 1}


def test_a_failed_save_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_png(tmp_path / "a.png", noise(), {})
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_no_reader_takes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bytes"):
        save_png(tmp_path / "a.png", noise(), {"x": "y" * (4 * 2**20)})
    with pytest.raises(ValueError, match="JSON"):
        save_png(tmp_path / "a.png", noise(), {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []


def _with_text(path: Path, text: str, *, zipped: bool = False) -> Path:
    info = PngInfo()
    info.add_itxt("vqtools", text, zip=zipped)
    noise().save(path, pnginfo=info)
    return path


def test_files_without_settings_are_named(tmp_path: Path) -> None:
    noise().save(tmp_path / "plain.png")
    noise().save(tmp_path / "photo.jpg")
    _with_text(tmp_path / "broken.png", "{")
    _with_text(tmp_path / "list.png", "[1]")
    _with_text(tmp_path / "deep.png", "[" * 100_000)
    _with_text(tmp_path / "long.png", json.dumps({"x": "y" * (4 * 2**20)}))
    _with_text(tmp_path / "bomb.png", json.dumps({"x": "y" * (9 * 2**20)}), zipped=True)
    for name, says in [
        ("plain.png", "no settings"), ("photo.jpg", "no settings"), ("broken.png", "broken"), ("deep.png", "broken"),
        ("list.png", "no JSON object"), ("long.png", "too large"), ("bomb.png", "too large"), ("no.png", "not there"),
        (".", "cannot be read"),
    ]:  # fmt: skip
        with pytest.raises(UserError, match=says):
            read_record(tmp_path / name)


def test_a_record_compressed_by_another_program_is_read(tmp_path: Path) -> None:
    assert read_record(_with_text(tmp_path / "z.png", '{"a": 1}', zipped=True)) == {"a": 1}


def test_names_are_made_from_prompt_and_seed() -> None:
    assert file_stem("A red apple!", 42) == "a-red-apple-42"
    assert file_stem("../../etc/passwd | CON:2", 1) == "etc-passwd-con-2-1"
    assert file_stem("¿?", 7) == "picture-7"
    assert file_stem("赤いりんご", 7) == "赤いりんご-7"


@given(st.text(), st.integers(0, 2**63))
def test_names_are_short_and_safe(prompt: str, seed: int) -> None:
    stem = file_stem(prompt, seed)
    assert len(stem.encode("utf-8")) <= 190
    assert all(letter.isalnum() or letter == "-" for letter in stem)
    assert not stem.startswith("-")


def test_a_folder_is_tried_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_writable(tmp_path)
    check_writable(tmp_path / "not" / "yet")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file"):
        check_writable(tmp_path / "file" / "sub")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(UserError, match="permission denied"):
        check_writable(tmp_path)
