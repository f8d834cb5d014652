"""The record inside a PNG."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from vqtools.core.errors import UserError
from vqtools.media.image import load_picture
from vqtools.media.png_record import read_record, save_png


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8))


@settings(max_examples=25)  # each waits for the disk
@given(
    record=st.dictionaries(
        st.text(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5)
    )
)
def test_a_record_is_read_back_unchanged(tmp_path_factory: pytest.TempPathFactory, record: dict[str, Any]) -> None:
    path = save_png(tmp_path_factory.mktemp("r") / "p.png", noise(), record)
    assert read_record(path) == record
    assert load_picture(path).tobytes() == noise().tobytes()


def test_half_a_surrogate_pair_is_kept(tmp_path: Path) -> None:
    record = {"prompt": "caf\udce9"}
    assert read_record(save_png(tmp_path / "p.png", noise(), record)) == record


def test_an_existing_picture_is_only_replaced_on_request(tmp_path: Path) -> None:
    names = [save_png(tmp_path / "a.png", noise(), {"n": n}).name for n in range(3)]
    assert names == ["a.png", "a-2.png", "a-3.png"]
    assert read_record(tmp_path / "a.png") == {"n": 0}
    assert save_png(tmp_path / "a.png", noise(), {"n": 9}, overwrite=True).name == "a.png"
    assert read_record(tmp_path / "a.png") == {"n": 9}
    assert len(list(tmp_path.iterdir())) == 3


def test_existing_pictures_are_kept_without_hard_links_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_record_that_cannot_be_read_back_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bytes"):
        save_png(tmp_path / "a.png", noise(), {"x": "y" * (4 * 2**20)})
    with pytest.raises(ValueError, match="JSON"):
        save_png(tmp_path / "a.png", noise(), {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []


def save_with_text(path: Path, text: str, *, zipped: bool = False) -> Path:
    info = PngInfo()
    info.add_itxt("vqtools", text, zip=zipped)
    noise().save(path, pnginfo=info)
    return path


def test_a_file_without_a_record_is_a_user_error(tmp_path: Path) -> None:
    noise().save(tmp_path / "plain.png")
    noise().save(tmp_path / "photo.jpg")
    save_with_text(tmp_path / "broken.png", "{")
    save_with_text(tmp_path / "list.png", "[1]")
    save_with_text(tmp_path / "deep.png", "[" * 100_000)
    save_with_text(tmp_path / "long.png", json.dumps({"x": "y" * (4 * 2**20)}))
    save_with_text(tmp_path / "bomb.png", json.dumps({"x": "y" * (9 * 2**20)}), zipped=True)
    for name, says in [
        ("plain.png", "no settings"),
        ("photo.jpg", "no settings"),
        ("broken.png", "broken"),
        ("deep.png", "broken"),
        ("list.png", "not a JSON object"),
        ("long.png", "too large"),
        ("bomb.png", "too large"),
        ("no.png", "not there"),
        (".", "cannot be read"),
    ]:
        with pytest.raises(UserError, match=says):
            read_record(tmp_path / name)


def test_a_record_compressed_by_another_program_is_read(tmp_path: Path) -> None:
    assert read_record(save_with_text(tmp_path / "z.png", '{"a": 1}', zipped=True)) == {"a": 1}
