"""`vqtools paint`: what is impossible is one line, flags and records become settings, pictures are never lost."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.cli.conftest import Canvas, run_command
from vqtools.core import files
from vqtools.core.errors import UserError
from vqtools.media.image import load_picture
from vqtools.media.png_record import read_record, save_png
from vqtools.painting.settings import PaintSettings
from vqtools.pipelines import presets
from vqtools.pipelines.presets import StepTimeModel


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "there is no prompt"),
        ([""], "prompt"),
        (["   "], "prompt"),
        (["apple:nan"], "nan"),
        (["apple:inf"], "inf"),
        (["apple:1:inf"], "inf"),
        (["a", "red", "apple"], "put it in quotes"),
        (["x", "--size", "100x100"], "nearest is"),
        (["x", "--size", "100"], "width and height, like 256x256"),
        (["x", "-s", "64", "64", "--size", "64x64"], "given twice"),
        (["x", "--iterations", "0"], "must be 1 to"),
        (["x", "-i", "many"], "iterations 'many': must be a whole number"),
        (["x", "-lr", "nan"], "learning_rate 'nan'"),
        (["x", "--preset", "bset"], "'best'"),
        (["x", "--vqgan", "startr"], "did you mean 'starter'?"),
        (["x", "--clip", "startr"], "did you mean 'starter'?"),
        (["x", "--transformer", "startr"], "did you mean 'starter' or 'starter-large'?"),
        (["x", "--init-image", "absent.png"], "absent.png"),
        (["x", "--out", "file/sub/a.png"], "is a file"),
        (["x", "--out", "a.jpg"], "nearest is a.png"),
        (["x", "--from", "absent.png"], "not there"),
        (["--from", "file"], "no settings"),
        (["--from", "plain.png"], "no settings"),
        (["--from", "strange.png"], "no settings"),
        (["--from", "wrong.png"], "there is no setting"),
        (["x", "--iteratoins", "3"], "--iterations"),
        (["x", "--iterations"], "requires an argument"),
    ],
)
def test_a_user_error_is_one_line_and_writes_nothing(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    picture = Image.new("RGB", (4, 4))
    picture.save("plain.png")
    save_png("strange.png", picture, {"settings": 3})
    save_png("wrong.png", picture, {"settings": {"prompt": "x", "itrations": 3}})
    before = sorted(Path().rglob("*"))
    assert run_command("paint", *arguments) == 2
    shown = capsys.readouterr()
    assert says in shown.err
    assert shown.err.startswith("vqtools: ") and shown.err.count("\n") == 1 and shown.out == ""
    assert sorted(Path().rglob("*")) == before


def test_an_unwritable_folder_is_reported_before_the_work(
    canvases: list[Canvas], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_folder: Path) -> None:
        raise UserError("folder '.' cannot be written (permission denied)")

    monkeypatch.setattr(files, "check_writable", refuse)
    assert run_command("paint", "x") == 2
    assert canvases == []
    assert "permission denied" in capsys.readouterr().err


def test_a_full_disk_is_one_line(
    canvases: list[Canvas], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert run_command("paint", "x", "-i", "2") == 2
    assert "No space left on device" in capsys.readouterr().err
    assert list(Path().iterdir()) == []


def test_the_file_is_named_after_the_prompt_and_printed(
    canvases: list[Canvas], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("paint", "a red apple", "-i", "3") == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("a-red-apple-7.png (192x192, seed 7, ")
    assert "loss=" in shown.err and "seed 7" in shown.err
    assert read_record("a-red-apple-7.png")["settings"]["iterations"] == 3


def test_flags_reach_the_settings(canvases: list[Canvas]) -> None:
    inputs = ["-ii", "in.png", "-iw", "0.5", "--vqgan", "a", "--clip", "b/c"]
    arguments = ["-s", "64", "32", "-i", "2", "-sd", "5", "-cuts", "3", *inputs, "--out", "deep/er/p"]
    assert run_command("paint", "x", *arguments) == 0
    settings = canvases[0].settings
    assert (settings.size, settings.iterations, settings.seed, settings.cutouts) == ((64, 32), 2, 5, 3)
    assert (settings.init_image, settings.init_weight, settings.vqgan, settings.clip) == ("in.png", 0.5, "a", "b/c")
    assert Path("deep/er/p.png").is_file()
    assert run_command("paint", "x", "--size", "32x64", "-i", "1", "--out", "deep") == 0
    assert canvases[1].settings.size == (32, 64)
    assert Path("deep/x-7.png").is_file()


def test_flags_override_a_preset(canvases: list[Canvas], monkeypatch: pytest.MonkeyPatch) -> None:
    step_time = StepTimeModel(0.0, 1e-6, 0.001, 9, "a machine")
    monkeypatch.setattr(presets, "run_benchmark", lambda _settings, _machine: step_time)
    monkeypatch.setenv("VQTOOLS_HOME", str(Path.cwd() / "home"))
    run_command("paint", "x", "--preset", "draft", "--cutouts", "2")
    assert (canvases[0].settings.iterations, canvases[0].settings.cutouts) == (30, 2)


def test_a_picture_is_never_overwritten(canvases: list[Canvas]) -> None:
    for _ in range(2):
        assert run_command("paint", "x", "-i", "1", "--out", "p.png") == 0
    assert sorted(path.name for path in Path().iterdir()) == ["p-2.png", "p.png"]


def test_from_reproduces_a_picture_and_flags_override_its_record(canvases: list[Canvas]) -> None:
    run_command("paint", "x:2 | y", "-i", "5", "-sd", "9", "--cutouts", "3", "--out", "p.png")
    assert run_command("paint", "--from", "p.png", "--out", "q.png") == 0
    assert load_picture("q.png").tobytes() == load_picture("p.png").tobytes()
    assert canvases[1].settings.model_copy(update={"precision": "auto"}) == canvases[0].settings
    assert canvases[1].settings.precision == "fp32"
    run_command("paint", "other", "--from", "p.png", "-sd", "10", "--preset", "best", "-i", "4")
    settings = canvases[2].settings
    assert (settings.prompt, settings.seed, settings.iterations, settings.cutouts) == ("other", 10, 4, 24)


def test_from_reports_differences_to_the_record(canvases: list[Canvas], capsys: pytest.CaptureFixture[str]) -> None:
    run_command("paint", "x", "-i", "1", "--out", "p.png")
    record = read_record("p.png")
    record |= {"models": {"vqgan": {"name": "starter", "sha256": "11"}}, "torch": "1.0", "threads": 3}
    save_png("old.png", Image.new("RGB", (4, 4)), record)
    capsys.readouterr()
    assert run_command("paint", "--from", "old.png") == 0
    shown = capsys.readouterr().err
    assert "torch 1.0" in shown and "vqgan is not the one" in shown and "with threads" not in shown
    assert canvases[-1].machine.threads == 3


def test_ctrl_c_saves_the_picture(
    canvases: list[Canvas], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Canvas, "step", _interrupted(Canvas.step, at=3))
    assert run_command("paint", "x", "-i", "9", "--out", "p.png") == 130
    assert "stopped after 4 of 9 steps" in capsys.readouterr().err
    assert read_record("p.png")["position"] == 4
    monkeypatch.undo()


def test_a_stopped_picture_is_reproduced_up_to_its_last_step(canvases: list[Canvas], tmp_path: Path) -> None:
    settings = PaintSettings(prompt="x", iterations=9, seed=1)
    half = Canvas(settings, None)
    half.position = 4
    save_png(tmp_path / "half.png", half.picture(), half.record())
    assert run_command("paint", "--from", "half.png", "--out", "again.png") == 0
    assert load_picture("again.png").tobytes() == load_picture("half.png").tobytes()
    assert run_command("paint", "--from", "half.png", "-i", "9", "--out", "whole.png") == 0
    assert read_record("whole.png")["position"] == 9


def _interrupted(step: Any, at: int) -> Any:
    def stepping(self: Canvas) -> dict[str, float]:
        self.interrupt_at = at
        result: dict[str, float] = step(self)
        return result

    return stepping


def test_flags_film_enlarge_and_replay_a_picture(
    edited_picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command("paint", "--from", str(edited_picture), "--film", "--out", "film.gif") == 0
    assert run_command("paint", "--from", str(edited_picture), "--bigger", "2", "-i", "1", "--out", "big.png") == 0
    assert (
        run_command("paint", "--from", str(edited_picture), "--replay", "--size", "larger", "--out", "replayed.png")
        == 0
    )
    assert load_picture("big.png").size == load_picture("replayed.png").size == (128, 128)
    assert [entry["do"] for entry in read_record("replayed.png")["journal"]] == ["edit"]
    assert Path("film.gif").stat().st_size > 1000
    Path("two.txt").write_text("a cat\na dog\n")
    quick = ["--size", "64x64", "-i", "1", "-cuts", "1", "--grids", "1", "-sd", "1"]
    assert run_command("paint", "--prompts", "two.txt", "--bigger", "1.5", *quick) == 0
    assert sorted(path.name for path in Path().glob("a-*.png")) == [
        "a-cat-1-bigger.png", "a-cat-1.png", "a-dog-1-bigger.png", "a-dog-1.png",
    ]  # fmt: skip
    capsys.readouterr()
    for arguments, message in (
        (("a", "--film"), "--from PICTURE.png"),
        (("a", "--size", "larger"), "--from PICTURE.png"),
        (("--from", str(edited_picture), "--film", "-i", "3"), "only --size may differ"),
        (("--from", str(edited_picture), "--film", "--out", "film.gif"), "exists already"),
        (("--from", str(edited_picture), "--bigger", "3"), "at most 2"),
    ):
        assert run_command("paint", *arguments) == 2
        assert message in capsys.readouterr().err
