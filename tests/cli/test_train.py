"""`vqtools train-vqgan` and `train-transformer` at the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PICTURES = str(Path(__file__).parents[1] / "pictures")
SMALL = ["--size=32", "--batch-size=4", "--steps=3", "--measure-every=2"]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path / "home"))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        call = [sys.executable, "-m", "vqtools", "train-vqgan", *arguments]
        return subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)

    return run


def test_it_says_what_it_chose_and_where_the_model_is(command, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "broken.png").write_bytes(b"no picture")
    done = command(PICTURES, "--name", "mine", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "held out to measure by" in done.stderr and "f 8, 1024 codes, 32 px, 3 steps of 4 pictures" in done.stderr
    assert str(tmp_path / "home" / "mine.safetensors") in done.stdout and "held-out psnr" in done.stdout
    again = command(PICTURES, "--name", "mine", *SMALL)
    assert again.returncode == 2 and "contains a run; continue it with --resume" in again.stderr
    resumed = command("--resume", "--name", "mine")
    assert resumed.returncode == 0 and "mine.safetensors" in resumed.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "there is no folder of pictures; say which: vqtools train-vqgan FOLDER"),
        (["absent"], "'absent' does not exist; expected a folder, a zip or a tar of pictures"),
        ([PICTURES, "--size=37"], "size 37 is not a multiple of 8; the nearest is 40"),
        ([PICTURES, "--gan=hing"], "gan 'hing': must be 'hinge', 'vanilla' or 'minimax'"),
        ([PICTURES, "--steps=many"], "steps 'many': must be a whole number"),
        (["--resume", "--name=none-such"], "there is no run in none-such to go on with"),
        (["--resume", "--steps=5"], "a resumed run keeps its settings; leave steps away"),
        ([PICTURES, "--from=absent.safetensors"], "'absent.safetensors' is not there"),
    ],
)
def test_one_clear_line_and_exit_code_2(command, arguments: list[str], words: str) -> None:  # type: ignore[no-untyped-def]
    done = command(*arguments)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 5  # what was chosen may stand before it


GRID = ["--grid=4", "--layers=1", "--heads=2", "--width=16", "--steps=3", "--batch-size=4", "--views=2"]


@pytest.fixture
def transformer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path / "home"))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        call = [sys.executable, "-m", "vqtools", *arguments]
        return subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)

    return run


def test_a_transformer_is_trained_and_drawn_from(transformer, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    done = transformer("train-transformer", PICTURES, "--vqgan", "starter", "--name", "mine", *GRID)
    assert done.returncode == 0, done.stderr
    assert "held out to measure by" in done.stderr and "4x4 codes of starter, 3 steps" in done.stderr
    assert str(tmp_path / "home" / "mine.safetensors") in done.stdout and "held-out bits" in done.stdout
    drawn = transformer("sample", "--transformer", "mine", "--size", "64x32", "--out", str(tmp_path / "drawn"))
    assert drawn.returncode == 0, drawn.stderr
    again = transformer("train-transformer", PICTURES, "--name", "mine", *GRID)
    assert again.returncode == 2 and "contains a run; continue it with --resume" in again.stderr


def test_what_a_transformer_lacks_is_one_line_and_exit_code_2(transformer) -> None:  # type: ignore[no-untyped-def]
    done = transformer("train-transformer", PICTURES, "--condition", "caption", *GRID)
    assert done.returncode == 2 and "has none: put a .txt" in done.stderr.strip().splitlines()[-1]
    done = transformer("train-transformer")
    assert done.returncode == 2 and "say which: vqtools train-transformer FOLDER" in done.stderr
