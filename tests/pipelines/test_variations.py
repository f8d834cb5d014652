"""Pictures that continue others: enlarged ones, from a file or from a run."""

from pathlib import Path

import pytest

from vqtools.core.errors import UserError
from vqtools.core.job import finish
from vqtools.media.image import load_picture, resize_and_crop, to_tensor
from vqtools.media.png_record import read_record
from vqtools.painting.settings import PaintSettings
from vqtools.pipelines.paint import create_session
from vqtools.pipelines.variations import enlarge

QUICK = {"size": (64, 64), "iterations": 4, "cutouts": 2, "grids": 1}


def test_an_enlarged_picture_starts_from_the_picture_itself(edited_picture: Path) -> None:
    job = enlarge(edited_picture, 1.5)
    s = job.settings
    assert s.size == (96, 96) and s.prompt == "a green apple" and s.iterations == 2 and job.total == 2
    small = load_picture(edited_picture)
    shrunk = to_tensor(job.picture().resize(small.size))
    assert float((shrunk - to_tensor(small)).abs().mean()) < 0.15
    finish(job)
    record = job.record()
    again = create_session(
        PaintSettings.parse(record["settings"]), record=record
    )  # its record embeds the small picture
    finish(again)
    assert again.picture().tobytes() == job.picture().tobytes()


def test_enlarging_a_run_leaves_the_run_as_it_is() -> None:
    job = create_session(PaintSettings(prompt="a cat", seed=2, **QUICK))
    while job.position < job.total - 2:
        job.step()
    before = job.picture().tobytes()
    larger = enlarge(job, 2, iterations=1)
    assert larger.settings.size == (128, 128) and larger.total == 1 and job.picture().tobytes() == before
    assert resize_and_crop(larger.picture(), (64, 64)).size == (64, 64)


@pytest.mark.parametrize("factor", [1, 0.5, 2.5, float("nan")])
def test_the_factor_is_limited(edited_picture: Path, factor: float) -> None:
    with pytest.raises(UserError, match="more than 1, at most 2"):
        enlarge(edited_picture, factor)


def test_a_record_that_is_passed_is_not_read_again(edited_picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = read_record(edited_picture)
    monkeypatch.setattr("vqtools.pipelines.variations.read_record", pytest.fail)
    assert enlarge(edited_picture, 2, record=record).settings.prompt == "a green apple"
