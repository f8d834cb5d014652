"""The command line: exit codes, one clear line for what is impossible, pictures that are kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from vqtools.cli.main import main
from vqtools.core import files, paths
from vqtools.core.device import Machine
from vqtools.core.errors import UserError
from vqtools.media.image import load_picture
from vqtools.media.png_record import read_record, save_png
from vqtools.painting.settings import PaintSettings
from vqtools.pipelines import paint, presets
from vqtools.pipelines.presets import StepTimeModel
from vqtools.weights.load import load_transformer, load_vqgan


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert isinstance(left.value.code, int)
    return left.value.code


class Canvas:
    """A painting without networks: every step writes its number and the seed into the picture."""

    def __init__(self, settings: PaintSettings, threads: int | None) -> None:
        self.settings = settings if settings.seed is not None else settings.model_copy(update={"seed": 7})
        self.machine = Machine(torch.device("cpu"), "fp32", threads or 1)
        self.position, self.total = 0, settings.iterations
        self.interrupt_at = -1
        self.notes: list[str] = []

    def step(self) -> dict[str, float]:
        if self.position == self.interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)
        self.position += 1
        return {"loss": 1 / self.position}

    def preview(self) -> Image.Image:
        return self.picture()

    def picture(self) -> Image.Image:
        return Image.new("RGB", self.settings.size, (self.position, (self.settings.seed or 0) % 256, 0))

    def record(self) -> dict[str, Any]:
        return {
            "settings": self.settings.model_dump(mode="json"), "position": self.position, "total": self.total,
            "device": "cpu", "precision": "fp32", "threads": self.machine.threads,
            "models": {"vqgan": {"name": "starter", "sha256": "00"}},
        }  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


@pytest.fixture
def canvases(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Canvas]:
    """Paint without networks, in an empty folder; the list fills with what was painted."""
    made: list[Canvas] = []

    def painting(settings: PaintSettings, *, threads: int | None = None, **more: Any) -> Canvas:
        made.append(Canvas(settings, threads))
        return made[-1]

    monkeypatch.setattr(paint, "create_paint_job", painting)
    monkeypatch.chdir(tmp_path)
    return made


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
def test_the_impossible_gets_one_line_and_writes_nothing(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    picture = Image.new("RGB", (4, 4))
    picture.save("plain.png")
    save_png("strange.png", picture, {"settings": 3})
    save_png("wrong.png", picture, {"settings": {"prompt": "x", "itrations": 3}})
    before = sorted(Path().rglob("*"))
    assert call("paint", *arguments) == 2
    shown = capsys.readouterr()
    assert says in shown.err
    assert shown.err.startswith("vqtools: ") and shown.err.count("\n") == 1 and shown.out == ""
    assert sorted(Path().rglob("*")) == before


def test_an_unwritable_folder_is_said_before_the_work(
    canvases: list[Canvas], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(folder: Path) -> None:
        raise UserError("folder '.' cannot be written (permission denied)")

    monkeypatch.setattr(files, "check_writable", refuse)
    assert call("paint", "x") == 2
    assert canvases == []
    assert "permission denied" in capsys.readouterr().err


def test_a_full_disk_is_one_line(
    canvases: list[Canvas], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert call("paint", "x", "-i", "2") == 2
    assert "No space left on device" in capsys.readouterr().err
    assert list(Path().iterdir()) == []


def test_paint_names_the_file_and_says_where(canvases: list[Canvas], capsys: pytest.CaptureFixture[str]) -> None:
    assert call("paint", "a red apple", "-i", "3") == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("a-red-apple-7.png (192x192, seed 7, ")
    assert "loss=" in shown.err and "seed 7" in shown.err
    assert read_record("a-red-apple-7.png")["settings"]["iterations"] == 3


def test_flags_reach_the_settings(canvases: list[Canvas]) -> None:
    inputs = ["-ii", "in.png", "-iw", "0.5", "--vqgan", "a", "--clip", "b/c"]
    arguments = ["-s", "64", "32", "-i", "2", "-sd", "5", "-cuts", "3", *inputs, "--out", "deep/er/p"]
    assert call("paint", "x", *arguments) == 0
    settings = canvases[0].settings
    assert (settings.size, settings.iterations, settings.seed, settings.cutouts) == ((64, 32), 2, 5, 3)
    assert (settings.init_image, settings.init_weight, settings.vqgan, settings.clip) == ("in.png", 0.5, "a", "b/c")
    assert Path("deep/er/p.png").is_file()
    assert call("paint", "x", "--size", "32x64", "-i", "1", "--out", "deep") == 0
    assert canvases[1].settings.size == (32, 64)
    assert Path("deep/x-7.png").is_file()


def test_a_preset_sets_steps_and_cutouts_and_flags_win(canvases: list[Canvas], monkeypatch: pytest.MonkeyPatch) -> None:
    here = StepTimeModel(0.0, 1e-6, 0.001, 9, "a machine")
    monkeypatch.setattr(presets, "run_benchmark", lambda settings, machine: here)
    monkeypatch.setenv("VQTOOLS_HOME", str(Path.cwd() / "home"))
    call("paint", "x", "--preset", "draft", "--cutouts", "2")
    assert (canvases[0].settings.iterations, canvases[0].settings.cutouts) == (30, 2)


def test_a_picture_is_never_overwritten(canvases: list[Canvas]) -> None:
    for _ in range(2):
        assert call("paint", "x", "-i", "1", "--out", "p.png") == 0
    assert sorted(one.name for one in Path().iterdir()) == ["p-2.png", "p.png"]


def test_from_paints_the_same_and_flags_override(canvases: list[Canvas]) -> None:
    call("paint", "x:2 | y", "-i", "5", "-sd", "9", "--cutouts", "3", "--out", "p.png")
    assert call("paint", "--from", "p.png", "--out", "q.png") == 0
    assert load_picture("q.png").tobytes() == load_picture("p.png").tobytes()
    assert canvases[1].settings.model_copy(update={"precision": "auto"}) == canvases[0].settings
    assert canvases[1].settings.precision == "fp32"
    call("paint", "other", "--from", "p.png", "-sd", "10", "--preset", "best", "-i", "4")
    settings = canvases[2].settings
    assert (settings.prompt, settings.seed, settings.iterations, settings.cutouts) == ("other", 10, 4, 24)


def test_from_says_what_has_changed(canvases: list[Canvas], capsys: pytest.CaptureFixture[str]) -> None:
    call("paint", "x", "-i", "1", "--out", "p.png")
    record = read_record("p.png")
    record |= {"models": {"vqgan": {"name": "starter", "sha256": "11"}}, "torch": "1.0", "threads": 3}
    save_png("old.png", Image.new("RGB", (4, 4)), record)
    capsys.readouterr()
    assert call("paint", "--from", "old.png") == 0
    shown = capsys.readouterr().err
    assert "torch 1.0" in shown and "vqgan is not the one" in shown and "with threads" not in shown
    assert canvases[-1].machine.threads == 3


def test_ctrl_c_keeps_the_picture(
    canvases: list[Canvas], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Canvas, "step", _interrupted(Canvas.step, at=3))
    assert call("paint", "x", "-i", "9", "--out", "p.png") == 130
    assert "stopped after 4 of 9 steps" in capsys.readouterr().err
    assert read_record("p.png")["position"] == 4
    monkeypatch.undo()


def test_a_stopped_picture_is_made_again_as_it_was(canvases: list[Canvas], tmp_path: Path) -> None:
    settings = PaintSettings(prompt="x", iterations=9, seed=1)
    half = Canvas(settings, None)
    half.position = 4
    save_png(tmp_path / "half.png", half.picture(), half.record())
    assert call("paint", "--from", "half.png", "--out", "again.png") == 0
    assert load_picture("again.png").tobytes() == load_picture("half.png").tobytes()
    assert call("paint", "--from", "half.png", "-i", "9", "--out", "whole.png") == 0
    assert read_record("whole.png")["position"] == 9


def _interrupted(step: Any, at: int) -> Any:
    def stepping(self: Canvas) -> dict[str, float]:
        self.interrupt_at = at
        result: dict[str, float] = step(self)
        return result

    return stepping


def test_a_fault_is_one_line_unless_debugged(
    canvases: list[Canvas], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Canvas, "picture", lambda self: 1 / 0)
    assert call("paint", "x", "-i", "1") == 1
    shown = capsys.readouterr().err
    assert "ZeroDivisionError" in shown and "--debug" in shown and "Traceback" not in shown
    assert call("paint", "x", "-i", "1", "--debug") == 1
    assert "Traceback" in capsys.readouterr().err


def test_notebooks_are_copied_and_never_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    (source / ".ipynb_checkpoints").mkdir(parents=True)
    (source / ".ipynb_checkpoints" / "a.ipynb").touch()
    (source / "a.ipynb").write_text("new")
    (source / "b.ipynb").write_text("new")
    monkeypatch.setattr(paths, "notebooks_folder", lambda: source)
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "a.ipynb").write_text("my own")
    assert paths.copy_notebooks(folder) == (1, 1)
    assert (folder / "a.ipynb").read_text() == "my own"
    assert sorted(one.name for one in folder.iterdir()) == ["a.ipynb", "b.ipynb"]


def test_lab_starts_jupyter_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    def record(command: list[str], cwd: Path) -> int:
        started.append((command[1:], cwd))
        return 0

    monkeypatch.setattr(subprocess, "call", record)
    monkeypatch.chdir(tmp_path)
    assert call("lab", "mine", "--no-browser", "--port", "8899") == 0
    assert call("lab", "--no-browser") == 0
    assert started == [
        (["-m", "jupyterlab", "--no-browser", "--port", "8899"], Path("mine")),
        (["-m", "jupyterlab", "--no-browser"], Path("vqtools-notebooks")),
    ]
    assert (tmp_path / "mine" / "04_paint.ipynb").is_file()
    (tmp_path / "file").touch()
    assert call("lab", "file") == 2


def test_weights_and_info_tell_what_there_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path))
    assert call("weights") == 0
    table = {line.split("  ")[0]: line for line in capsys.readouterr().out.splitlines()}
    facts = ("vqgan", "980 MB", "no", "MIT", "ImageNet")
    assert all(word in table["vqgan-imagenet-f16-16384"] for word in facts)
    assert "yes" in table["starter"] and "unverified" in table["vqgan-wikiart-f16-16384"]
    assert call("info") == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("torch", "device", "memory", str(tmp_path)))


def test_weights_converts_what_a_person_has_and_finds_it_by_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path))
    golden = Path(__file__).parents[1] / "golden"
    assert call("weights", "convert", str(golden / "taming_net2net_class.ckpt"), "--name", "cin") == 0
    shown = capsys.readouterr().out
    assert "transformer cin (from taming Net2NetTransformer)" in shown and "vqgan cin-vqgan" in shown
    assert load_vqgan("cin-vqgan").f == 2 and load_transformer("cin").config.heads == 4
    assert call("weights") == 0
    assert "cin-vqgan" in capsys.readouterr().out
    for arguments, says in (
        ([str(golden / "ldm_vq.ckpt"), "--name", "cin"], "is there already; choose another name with --name"),
        ([str(golden / "ldm_vq.ckpt"), "--name", "../cin"], "may hold letters"),
        ([str(golden / "llamagen_gpt.pt")], "LlamaGen GPT"),
        ([str(tmp_path / "none.ckpt")], "is not there"),
    ):
        assert call("weights", "convert", *arguments) == 2
        told = capsys.readouterr().err
        assert says in told and told.count("\n") == 1


def test_weights_asks_before_what_is_unverified(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path))
    address = "http://127.0.0.1:9/x.ckpt"
    (tmp_path / "weights.txt").write_text(f"name: odd\nkind: vqgan\nurl: {address}\nunverified: nobody knows it\n")
    assert call("weights", "fetch", "odd") == 2  # no terminal: nobody can be asked
    shown = capsys.readouterr().err
    assert "odd is unverified: nobody knows it" in shown and "--yes" in shown
    answers: list[bool] = [False, True]
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.confirm", lambda *words, **keywords: answers.pop(0))
    monkeypatch.setattr("vqtools.weights.fetch.RETRY_PAUSE", 0.0)
    assert call("weights", "fetch", "odd") == 2 and "was not fetched" in capsys.readouterr().err
    assert call("weights", "fetch", "odd") == 2 and "could not be downloaded" in capsys.readouterr().err
    assert call("weights", "fetch", "starter") == 0 and "is here already" in capsys.readouterr().err
    assert call("weights", "fetch", "vqgan-imagenet") == 2
    assert "or 'vqgan-imagenet-f16-16384'?" in capsys.readouterr().err


def test_help_shows_every_flag_and_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom vqtools.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print([name for name in ('torch', 'open_clip', 'kornia', 'ipywidgets') if name in sys.modules])"
    )
    for arguments in (["--help"], ["paint", "--help"], ["paint", "x", "-i", "none"], [], ["weights"]):
        ran = subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, text=True, encoding="utf-8", check=False
        )
        assert ran.stdout.endswith("[]\n"), (arguments, ran.stdout, ran.stderr)
        if arguments == ["paint", "--help"]:
            flags = [flag for one in PaintSettings.options() if one.name != "prompt" for flag in (one.flag, *one.short)]
            assert [flag for flag in flags if flag not in ran.stdout] == []
