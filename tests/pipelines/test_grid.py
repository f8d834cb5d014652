"""Draft sheets and grids: what is on them, how one goes on from them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vqtools.cli.main import main
from vqtools.core.errors import UserError
from vqtools.media.png_record import read_record
from vqtools.painting.session import PaintSession
from vqtools.painting.settings import PaintSettings
from vqtools.pipelines.grid import GridCell, PaintGrid, create_candidate_grid, create_settings_grid, draw_grid
from vqtools.pipelines.paint import create_session
from vqtools.pipelines.variations import cross_pictures

QUICK = {"size": (64, 64), "iterations": 3, "cutouts": 2, "grids": 1}


def finish(job: PaintGrid | PaintSession) -> PaintGrid | PaintSession:
    while job.position < job.total:
        job.step()
    return job


@pytest.fixture(scope="module")
def sheet() -> PaintGrid:
    made = create_candidate_grid(PaintSettings(prompt="a red apple", seed=5, **QUICK), count=3)
    finish(made)
    return made


def test_a_draft_sheet_is_short_runs_of_seeds_in_a_row(sheet: PaintGrid) -> None:
    plain = create_candidate_grid(PaintSettings(prompt="a", seed=5, size=(64, 64)))
    assert [cell.settings.seed for cell in plain.cells] == list(range(5, 21))
    assert {(cell.settings.iterations, cell.settings.grids) for cell in plain.cells} == {(40, 4)}
    assert sheet.position == sheet.total == sum(done.record["total"] for done in sheet.finished)
    alone = finish(create_session(sheet.cells[1].settings))
    assert sheet.finished[1].picture.tobytes() == alone.picture().tobytes()


def test_what_is_picked_goes_on_where_it_was_and_its_png_makes_it_again(sheet: PaintGrid) -> None:
    job = sheet.pick(1, iterations=5)
    assert job.picture().tobytes() == sheet.finished[1].picture.tobytes()
    finish(job)
    assert job.position == sheet.finished[1].record["position"] + 2
    record = job.record()
    again = create_session(PaintSettings.parse(record["began"]), record=record, replay=True)
    assert finish(again).picture().tobytes() == job.picture().tobytes()


def test_halves_of_two_are_crossed_with_a_soft_seam(sheet: PaintGrid) -> None:
    a, b = Image.new("RGB", (64, 32), "red"), Image.new("RGB", (64, 32), "blue")
    beside, above = (np.asarray(cross_pictures(a, b, halves)) for halves in ("left-right", "top-bottom"))
    assert (beside[:, :28] == (255, 0, 0)).all() and (beside[:, 36:] == (0, 0, 255)).all()
    assert (above[:14] == (255, 0, 0)).all() and (above[18:] == (0, 0, 255)).all()
    job = sheet.cross(0, 2, iterations=2)
    assert job.settings.iterations == 2 and job.settings.seed == 5 and job.total == 2
    left, right = sheet.finished[0].picture, sheet.finished[2].picture
    seen = np.asarray(job.picture(), dtype=float)
    for half, source in ((slice(28), left), (slice(36, 64), right)):
        ours = np.abs(seen[:, half] - np.asarray(source, dtype=float)[:, half]).mean()
        assert ours < 25  # of 255: what the VQGAN's codes lose
    record = finish(job).record()
    again = create_session(PaintSettings.parse(record["settings"]), record=record)  # its start is inside
    assert finish(again).picture().tobytes() == job.picture().tobytes()


def test_a_stopped_sheet_goes_on_to_the_same_pictures(sheet: PaintGrid) -> None:
    first, second = (PaintGrid(sheet.cells, activity="drafts") for _ in range(2))
    for _ in range(sheet.finished[0].record["total"] + 4):
        first.step()
    second.load_state_dict(first.state_dict())
    assert second.position == first.position
    finish(second)
    assert [one.picture.tobytes() for one in second.finished] == [one.picture.tobytes() for one in sheet.finished]


def test_a_grid_has_every_combination_and_names_it() -> None:
    vary = {"prompt": ["a tree", "a cat"], "learning_rate": ["0.1", "0.2"], "seed": [1, 2, 3]}
    made = create_settings_grid(PaintSettings(**QUICK), vary)
    assert len(made.cells) == 12 and made.cells[4].settings.learning_rate == 0.2
    assert (made.cells[0].row, made.cells[0].label) == ("learning_rate 0.1 · a tree", "seed 1")
    assert {cell.settings.prompt for cell in made.cells[6:]} == {"a cat"}
    one_seed = create_settings_grid(PaintSettings(**QUICK), {"prompt": ["a", "b"]})
    assert len({cell.settings.seed for cell in one_seed.cells}) == 1
    for wrong, says in (({"sed": [1]}, "did you mean 'seed'"), ({"learning_rate": [-1]}, "learning_rate -1")):
        with pytest.raises(UserError, match=says):
            create_settings_grid(PaintSettings(**QUICK), wrong)
    with pytest.raises(UserError, match="257 paintings"):
        create_settings_grid(PaintSettings(**QUICK), {"seed": list(range(257))})


def test_labels_stand_above_their_pictures_and_what_is_missing_is_grey() -> None:
    settings = PaintSettings()
    cells = [GridCell(f"row {i // 2}", f"seed {i}", settings) for i in range(4)]
    shown = draw_grid(cells, [Image.new("RGB", (96, 64), colour) for colour in ("red", "green", "blue")])
    pixels = np.asarray(shown).reshape(-1, 3).tolist()
    counts = [pixels.count(colour) for colour in ([255, 0, 0], [0, 128, 0], [0, 0, 255], [225, 225, 225])]
    assert counts[:3] == [96 * 64] * 3 and counts[3] >= 96 * 64
    assert sum(max(pixel) < 100 for pixel in pixels) > 20  # the rows' names
    large = draw_grid(cells, [Image.new("RGB", (2000, 1000))] * 4)
    assert large.width < 2 * 384 + 50
    assert draw_grid([GridCell("", str(i), settings) for i in range(16)], []).size[0] == 4 * 130 + 2


def test_the_commands_make_a_sheet_and_go_on_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    quick = ["--size", "64x64", "-i", "2", "-cuts", "2", "--grids", "1"]

    def call(*arguments: str) -> int:
        with pytest.raises(SystemExit) as left:
            main(arguments)
        return int(left.value.code or 0)

    assert call("candidates", "a cat", "--count", "2", "-sd", "3", "--each", "--with", "oil", *quick) == 0
    assert read_record("a-cat-an-oil-painting-on-canvas-3-drafts.png")["activity"] == "drafts"
    sheet, first = "a-cat-an-oil-painting-on-canvas-3-drafts.png", "a-cat-an-oil-painting-on-canvas-3-drafts-01.png"
    assert call("candidates", "--from", sheet, "--pick", "2", "-i", "2", "--out", "p.png") == 0
    record = read_record("p.png")
    assert record["began"]["iterations"] == 2 and record["settings"]["iterations"] == 4
    assert call("candidates", "--from", sheet, "--cross", "1,2", "-i", "1", "--out", "c.png") == 0
    assert read_record("c.png")["settings"]["init_image"] == "cross-1-2.png"
    assert read_record(first)["settings"]["seed"] == 3
    assert call("grid", "a cat", "a dog", "--vary", "seed=1-2", *quick, "--out", "g.png") == 0
    assert len(read_record("g.png")["cells"]) == 4
    capsys.readouterr()
    for arguments, says in (
        (("candidates", "--from", sheet, "--pick", "3"), "no draft 3"),
        (("candidates", "--from", sheet), "wants --pick"),
        (("candidates", "--from", first, "--pick", "1"), "is no sheet"),
        (("candidates", "--from", sheet, "--cross", "1"), "two drafts"),
        (("grid", "a", "--vary", "seed"), "a setting and its values"),
        (("grid", "a", "--vary", "seed=5-1"), "no range"),
        (("grid",), "no prompt"),
    ):
        assert call(*arguments) == 2
        assert says in capsys.readouterr().err
