"""The reader's pictures, and the names that notebook 00 uses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.illustrated.conftest import ZIP
from vqtools import illustrated
from vqtools.core.errors import UserError
from vqtools.illustrated import pictures


def test_a_picture_is_loaded_from_a_file_or_a_zip(tmp_path: Path, oranges: Tensor, fruit: Tensor) -> None:
    assert oranges.shape == (1, 3, 96, 96) and fruit.shape == (8, 3, 96, 96)
    Image.new("RGB", (40, 20), (255, 0, 0)).save(tmp_path / "red.png")
    red = pictures.open_picture(str(tmp_path / "red.png"), 16)
    assert torch.equal(red, torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 16, 16))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert len(pictures.open_pictures(str(tmp_path), 16)) == 1


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("absent.png", "absent.png"),
        ("absent.zip/one.png", "absent.zip"),
        (f"{ZIP}/none.png", "no picture named 'none.png'"),
    ],
)
def test_a_missing_picture_is_named_in_the_error(path: str, named: str) -> None:
    with pytest.raises(UserError, match=named):
        pictures.open_picture(path, 32)


def test_the_notebook_uses_every_exported_name() -> None:
    notebook = (Path(__file__).parents[2] / "notebooks" / "00_illustrated_vqgan.ipynb").read_text("utf-8")
    for name in illustrated.__all__:
        assert callable(getattr(illustrated, name))
        assert f"see.{name}(" in notebook, name
