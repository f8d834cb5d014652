"""Going on from a picture: bigger, and its making told again, larger or as a video."""

from pathlib import Path

import pytest

from vqtools.cli.main import main
from vqtools.core.errors import UserError
from vqtools.media.image import load_picture, resize_and_crop, to_tensor
from vqtools.media.png_record import read_record, save_png
from vqtools.painting.session import PaintSession
from vqtools.painting.settings import PaintSettings
from vqtools.pipelines.paint import create_session
from vqtools.pipelines.timelapse import Timelapse
from vqtools.pipelines.variations import enlarge

QUICK = {"size": (64, 64), "iterations": 4, "cutouts": 2, "grids": 1}


def finish(job: PaintSession | Timelapse) -> None:
    while job.position < job.total:
        job.step()


@pytest.fixture(scope="module")
def steered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture that was edited in mid-run."""
    job = create_session(PaintSettings(prompt="a red apple", seed=2, **QUICK))
    for _ in range(job.total - 2):
        job.step()
    job.edit({"prompt": "a green apple"})
    finish(job)
    return save_png(tmp_path_factory.mktemp("steered") / "apple.png", job.picture(), job.record())


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    return int(left.value.code or 0)


def test_bigger_goes_on_from_the_picture_itself(steered: Path) -> None:
    job = enlarge(steered, 1.5)
    s = job.settings
    assert s.size == (96, 96) and s.prompt == "a green apple" and s.iterations == 2 and job.total == 2
    small = load_picture(steered)
    shrunk = to_tensor(job.picture().resize(small.size))
    assert float((shrunk - to_tensor(small)).abs().mean()) < 0.15
    finish(job)
    record = job.record()
    again = create_session(PaintSettings.parse(record["settings"]), record=record)  # the small picture is inside
    finish(again)
    assert again.picture().tobytes() == job.picture().tobytes()


def test_bigger_from_a_run_under_way_leaves_it_alone() -> None:
    job = create_session(PaintSettings(prompt="a cat", seed=2, **QUICK))
    while job.position < job.total - 2:
        job.step()
    before = job.picture().tobytes()
    larger = enlarge(job, 2, iterations=1)
    assert larger.settings.size == (128, 128) and larger.total == 1 and job.picture().tobytes() == before
    assert resize_and_crop(larger.picture(), (64, 64)).size == (64, 64)


@pytest.mark.parametrize("factor", [1, 0.5, 2.5, float("nan")])
def test_an_octave_is_the_most(steered: Path, factor: float) -> None:
    with pytest.raises(UserError, match="more than 1, at most 2"):
        enlarge(steered, factor)


def test_the_flags(
    steered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("paint", "--from", str(steered), "--film", "--out", "film.gif") == 0
    assert call("paint", "--from", str(steered), "--bigger", "2", "-i", "1", "--out", "big.png") == 0
    assert call("paint", "--from", str(steered), "--replay", "--size", "larger", "--out", "replayed.png") == 0
    assert load_picture("big.png").size == load_picture("replayed.png").size == (128, 128)
    assert [entry["do"] for entry in read_record("replayed.png")["journal"]] == ["edit"]
    assert Path("film.gif").stat().st_size > 1000
    Path("two.txt").write_text("a cat\na dog\n")
    quick = ["--size", "64x64", "-i", "1", "-cuts", "1", "--grids", "1", "-sd", "1"]
    assert call("paint", "--prompts", "two.txt", "--bigger", "1.5", *quick) == 0
    assert sorted(path.name for path in Path().glob("a-*.png")) == [
        "a-cat-1-bigger.png", "a-cat-1.png", "a-dog-1-bigger.png", "a-dog-1.png",
    ]  # fmt: skip
    capsys.readouterr()
    for arguments, says in (
        (("a", "--film"), "--from PICTURE.png"),
        (("a", "--size", "larger"), "--from PICTURE.png"),
        (("--from", str(steered), "--film", "-i", "3"), "only --size may differ"),
        (("--from", str(steered), "--film", "--out", "film.gif"), "exists already"),
        (("--from", str(steered), "--bigger", "3"), "at most 2"),
    ):
        assert call("paint", *arguments) == 2
        assert says in capsys.readouterr().err
