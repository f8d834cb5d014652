"""`vqtools upscale` writes an enlarged picture that keeps its record and names the upscaler."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.cli.conftest import run_command
from vqtools.media.image import load_picture
from vqtools.media.png_record import read_record, save_png


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The file of a random ESRGAN that doubles the size, the smallest that spandrel recognises."""
    from safetensors.torch import save_file
    from spandrel.architectures.ESRGAN import ESRGAN

    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = ESRGAN(num_filters=8, num_blocks=1, scale=2).state_dict()
    save_file({name: value.contiguous() for name, value in weights.items()}, tmp_path / "up.safetensors")
    return tmp_path / "up.safetensors"


def test_an_enlarged_picture_keeps_its_record(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_png("a.png", Image.new("RGB", (40, 24), (10, 200, 90)), {"settings": {"prompt": "a"}})
    assert run_command("upscale", "a.png", "--model", str(model), "--tile", "32") == 0
    record = read_record("a-x2.png")
    assert record["settings"] == {"prompt": "a"} and record["upscaled"]["scale"] == 2
    assert record["upscaled"]["model"] == "up.safetensors" and len(record["upscaled"]["sha256"]) == 64
    assert load_picture("a-x2.png").size == (80, 48)
