"""`vqtools train-vqgan` and `vqtools train-transformer`: what they print, and their exit codes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PICTURES = str(Path(__file__).parents[1] / "pictures")
SMALL = ["--size=32", "--batch-size=4", "--steps=3", "--measure-every=2"]
GRID = ["--grid=4", "--layers=1", "--heads=2", "--width=16", "--steps=3", "--batch-size=4", "--views=2"]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def vqtools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `vqtools` in an empty folder, as a process of its own."""
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path / "home"))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "vqtools", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)

    return run


def test_train_vqgan_prints_the_chosen_settings_and_the_model_file(vqtools: Run, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    done = vqtools("train-vqgan", PICTURES, "--name", "mine", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "held out for measurements" in done.stderr and "f 8, 1024 codes, 32 px, 3 steps of 4 pictures" in done.stderr
    assert str(tmp_path / "home" / "mine.safetensors") in done.stdout and "held-out psnr" in done.stdout
    again = vqtools("train-vqgan", PICTURES, "--name", "mine", *SMALL)
    assert again.returncode == 2 and "contains a run; continue it with --resume" in again.stderr
    resumed = vqtools("train-vqgan", "--resume", "--name", "mine")
    assert resumed.returncode == 0 and "mine.safetensors" in resumed.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is no folder of pictures; name one: vqtools train-vqgan FOLDER"),
        (["absent"], "'absent' does not exist; expected a folder, a zip or a tar of pictures"),
        ([PICTURES, "--size=37"], "size 37 is not a multiple of 8; the nearest is 40"),
        ([PICTURES, "--gan=hing"], "gan 'hing': must be 'hinge', 'vanilla' or 'minimax'"),
        ([PICTURES, "--steps=many"], "steps 'many': must be a whole number"),
        (["--resume", "--name=none-such"], "there is no run in none-such to continue"),
        (["--resume", "--steps=5"], "a resumed run keeps its settings; omit steps"),
        ([PICTURES, "--from=absent.safetensors"], "'absent.safetensors' is not there"),
    ],
)
def test_a_user_error_is_one_line_and_exit_code_2(vqtools: Run, arguments: list[str], message: str) -> None:
    done = vqtools("train-vqgan", *arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 5  # the chosen settings may be printed before it


def test_a_trained_transformer_can_be_sampled(vqtools: Run, tmp_path: Path) -> None:
    done = vqtools("train-transformer", PICTURES, "--vqgan", "starter", "--name", "mine", *GRID)
    assert done.returncode == 0, done.stderr
    assert "held out for measurements" in done.stderr and "4x4 codes of starter, 3 steps" in done.stderr
    assert str(tmp_path / "home" / "mine.safetensors") in done.stdout and "held-out bits" in done.stdout
    drawn = vqtools("sample", "--transformer", "mine", "--size", "64x32", "--out", str(tmp_path / "drawn"))
    assert drawn.returncode == 0, drawn.stderr
    again = vqtools("train-transformer", PICTURES, "--name", "mine", *GRID)
    assert again.returncode == 2 and "contains a run; continue it with --resume" in again.stderr


def test_missing_data_of_a_transformer_is_one_line_and_exit_code_2(vqtools: Run) -> None:
    done = vqtools("train-transformer", PICTURES, "--condition", "caption", *GRID)
    assert done.returncode == 2 and "has none: add a .txt" in done.stderr.strip().splitlines()[-1]
    done = vqtools("train-transformer")
    assert done.returncode == 2 and "name one: vqtools train-transformer FOLDER" in done.stderr
