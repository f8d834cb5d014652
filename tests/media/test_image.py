"""Reading pictures, and their conversion to tensors."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vqtools.core.errors import UserError
from vqtools.media.image import load_picture, resize_and_crop, to_picture, to_tensor


def noise(width: int = 5, height: int = 3) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def pixel(picture: Image.Image) -> Any:
    return picture.getpixel((0, 0))


def test_to_picture_undoes_to_tensor() -> None:
    values = Image.fromarray(np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3))
    tensor = to_tensor(values)
    assert tensor.shape == (1, 3, 16, 16) and tensor.min() == -1 and tensor.max() == 1
    assert to_picture(tensor).tobytes() == values.tobytes()
    assert to_picture(tensor[0]).tobytes() == values.tobytes()


def test_values_out_of_range_are_clipped_and_nan_is_an_error() -> None:
    assert pixel(to_picture(torch.tensor([9.0, -9.0, 0.0]).reshape(3, 1, 1))) == (255, 0, 128)
    with pytest.raises(ValueError, match="NaN"):
        to_picture(torch.full((3, 1, 1), float("nan")))
    with pytest.raises(ValueError, match="not an image"):
        to_picture(torch.zeros(2, 3, 4, 4))


def test_resize_and_crop_keeps_the_aspect_ratio() -> None:
    wide = Image.new("RGB", (40, 10), "red")
    wide.paste("blue", (15, 0, 25, 10))
    square = resize_and_crop(wide, (10, 10))
    assert square.size == (10, 10)
    assert np.asarray(square)[:, 2:8, 2].min() > 240


def test_every_mode_becomes_rgb(tmp_path: Path) -> None:
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


def test_the_transparent_colour_of_an_rgb_png_becomes_white(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2), (1, 2, 3)).save(tmp_path / "t.png", transparency=(1, 2, 3))
    assert pixel(load_picture(tmp_path / "t.png")) == (255, 255, 255)


def test_the_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (4, 2)).save(tmp_path / "turned.jpg", exif=exif)
    assert load_picture(tmp_path / "turned.jpg").size == (2, 4)


def test_the_first_frame_of_an_animation_is_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("white", "black")]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    assert pixel(load_picture(tmp_path / "two.gif")) == (255, 255, 255)


def _bomb(path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


def test_a_file_that_is_not_a_picture_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").touch()
    noise(64, 64).save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:5000])
    _bomb(tmp_path / "bomb.png")
    for name, says in [
        ("text.png", "not a picture"),
        ("empty.png", "not a picture"),
        ("half.png", "broken"),
        ("bomb.png", "too large"),
        ("absent.png", "not there"),
        (".", "a folder"),
    ]:
        with pytest.raises(UserError, match=says):
            load_picture(tmp_path / name)
