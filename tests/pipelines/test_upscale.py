"""An upscaler from a file is read safely, and its tiles have no seams."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from vqtools.core.errors import UserError
from vqtools.media.image import load_picture, resize_and_crop, to_tensor
from vqtools.pipelines import upscale
from vqtools.pipelines.upscale import load_upscaler

PICTURE = Path(__file__).parents[1] / "pictures" / "fluent3d__taco.webp"


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """A random ESRGAN that doubles the size, the smallest that spandrel recognises."""
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


def test_tiles_give_the_same_picture_as_one_pass(model: Path) -> None:
    picture = resize_and_crop(load_picture(PICTURE), (70, 50))
    whole = upscale.upscale(picture, model)
    tiled = upscale.upscale(picture, model, tile=32)
    assert whole.size == (140, 100) and len(whole.getcolors(2**16)) > 100
    a, b = to_tensor(whole), to_tensor(tiled)
    assert (a - b).abs().max() <= 2 / 127.5


def test_weights_from_a_pickle_are_the_same_and_its_code_never_runs(
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


def test_a_file_that_is_not_an_upscaler_is_an_error_of_one_line(tmp_path: Path) -> None:
    save_file({"a.weight": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    (tmp_path / "up.txt").write_bytes(b"no")
    for name, says in (
        ("other.safetensors", "not an upscaler that spandrel supports"),
        ("broken.safetensors", "broken"),
        ("up.txt", "expected .safetensors"),
        ("absent.pth", "does not exist"),
    ):
        with pytest.raises(UserError, match=says):
            load_upscaler(tmp_path / name)


def test_without_spandrel_the_error_says_how_to_install_it(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name == "spandrel":
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UserError, match=r'pip install "vqtools\[upscale\]"'):
        load_upscaler(model)
