"""An upscaler of the user's: read safely, tiled without seams, named in the picture's record."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from vqtools.cli.main import main
from vqtools.core.errors import UserError
from vqtools.media.image import load_picture, resize_and_crop, to_tensor
from vqtools.media.png_record import read_record, save_png
from vqtools.pipelines import upscale
from vqtools.pipelines.upscale import load_upscaler

PICTURE = Path(__file__).parents[1] / "pictures" / "fluent3d__taco.webp"


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """A random ESRGAN of two times, as small as spandrel knows one."""
    from spandrel.architectures.ESRGAN import ESRGAN

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {
            name: value.contiguous()
            for name, value in ESRGAN(num_filters=8, num_blocks=1, scale=2).state_dict().items()
        }


@pytest.fixture
def model(weights: dict[str, torch.Tensor], tmp_path: Path) -> Path:
    save_file(weights, tmp_path / "up.safetensors")
    return tmp_path / "up.safetensors"


def test_tiles_make_the_picture_that_one_pass_makes(model: Path) -> None:
    picture = resize_and_crop(load_picture(PICTURE), (70, 50))
    whole = upscale.upscale(picture, model)
    tiled = upscale.upscale(picture, model, tile=32)
    assert whole.size == (140, 100) and len(whole.getcolors(2**16)) > 100
    a, b = to_tensor(whole), to_tensor(tiled)
    assert (a - b).abs().max() <= 2 / 127.5


def test_weights_of_a_pickle_are_the_same_and_code_in_it_never_runs(
    weights: dict[str, torch.Tensor], model: Path, tmp_path: Path
) -> None:
    picture = Image.new("RGB", (16, 16), (200, 40, 40))
    torch.save({"params_ema": weights}, tmp_path / "up.pth")
    assert upscale.upscale(picture, tmp_path / "up.pth").tobytes() == upscale.upscale(picture, model).tobytes()

    class Evil:
        def __reduce__(self) -> Any:
            return open, (str(tmp_path / "ran"), "w")

    torch.save({"params": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="never run"):
        load_upscaler(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_what_is_no_upscaler_is_said_in_one_line(tmp_path: Path) -> None:
    save_file({"a.weight": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    (tmp_path / "up.txt").write_bytes(b"no")
    for name, says in (
        ("other.safetensors", "no upscaler that spandrel knows"),
        ("broken.safetensors", "broken"),
        ("up.txt", "expected .safetensors"),
        ("absent.pth", "is not there"),
    ):
        with pytest.raises(UserError, match=says):
            load_upscaler(tmp_path / name)


def test_without_the_extra_the_way_out_is_said(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *arguments: Any, **more: Any) -> Any:
        if name == "spandrel":
            raise ImportError(name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UserError, match=r'pip install "vqtools\[upscale\]"'):
        load_upscaler(model)


def test_the_command_keeps_the_record(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_png("a.png", Image.new("RGB", (40, 24), (10, 200, 90)), {"settings": {"prompt": "a"}})
    with pytest.raises(SystemExit) as left:
        main(["upscale", "a.png", "--model", str(model), "--tile", "32"])
    assert left.value.code == 0
    record = read_record("a-x2.png")
    assert record["settings"] == {"prompt": "a"} and record["upscaled"]["scale"] == 2
    assert load_picture("a-x2.png").size == (80, 48)
