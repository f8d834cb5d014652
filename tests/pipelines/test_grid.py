"""Candidates and grids: which paintings they hold, and how to continue from them."""

import numpy as np
import pytest
from PIL import Image

from vqtools.core.errors import UserError
from vqtools.core.job import finish
from vqtools.painting.settings import PaintSettings
from vqtools.pipelines.grid import PaintGrid, create_candidate_grid, create_settings_grid
from vqtools.pipelines.paint import create_session
from vqtools.pipelines.variations import cross_pictures

QUICK = {"size": (64, 64), "iterations": 3, "cutouts": 2, "grids": 1}


@pytest.fixture(scope="module")
def grid() -> PaintGrid:
    return finish(create_candidate_grid(PaintSettings(prompt="a red apple", seed=5, **QUICK), count=3))


def test_candidates_are_short_runs_with_consecutive_seeds(grid: PaintGrid) -> None:
    plain = create_candidate_grid(PaintSettings(prompt="a", seed=5, size=(64, 64)))
    assert [cell.settings.seed for cell in plain.cells] == list(range(5, 21))
    assert {(cell.settings.iterations, cell.settings.grids) for cell in plain.cells} == {(40, 4)}
    assert grid.position == grid.total == sum(result.record["total"] for result in grid.finished)
    alone = finish(create_session(grid.cells[1].settings))
    assert grid.finished[1].picture.tobytes() == alone.picture().tobytes()


def test_a_picked_candidate_continues_from_its_end_and_its_record_reproduces_it(grid: PaintGrid) -> None:
    job = grid.pick(1, iterations=5)
    assert job.picture().tobytes() == grid.finished[1].picture.tobytes()
    finish(job)
    assert job.position == grid.finished[1].record["position"] + 2
    record = job.record()
    again = create_session(PaintSettings.parse(record["began"]), record=record, replay=True)
    assert finish(again).picture().tobytes() == job.picture().tobytes()


def test_crossing_joins_the_halves_of_two_paintings_with_a_soft_seam(grid: PaintGrid) -> None:
    a, b = Image.new("RGB", (64, 32), "red"), Image.new("RGB", (64, 32), "blue")
    beside, above = (np.asarray(cross_pictures(a, b, halves)) for halves in ("left-right", "top-bottom"))
    assert (beside[:, :28] == (255, 0, 0)).all() and (beside[:, 36:] == (0, 0, 255)).all()
    assert (above[:14] == (255, 0, 0)).all() and (above[18:] == (0, 0, 255)).all()
    job = grid.cross(0, 2, iterations=2)
    assert job.settings.iterations == 2 and job.settings.seed == 5 and job.total == 2
    left, right = grid.finished[0].picture, grid.finished[2].picture
    seen = np.asarray(job.picture(), dtype=float)
    for half, source in ((slice(28), left), (slice(36, 64), right)):
        ours = np.abs(seen[:, half] - np.asarray(source, dtype=float)[:, half]).mean()
        assert ours < 25  # of 255: what the VQGAN's codes lose
    record = finish(job).record()
    again = create_session(PaintSettings.parse(record["settings"]), record=record)  # its record embeds its start
    assert finish(again).picture().tobytes() == job.picture().tobytes()


def test_a_resumed_grid_makes_the_same_pictures(grid: PaintGrid) -> None:
    first, second = (PaintGrid(grid.cells, activity="drafts") for _ in range(2))
    for _ in range(grid.finished[0].record["total"] + 4):
        first.step()
    second.load_state_dict(first.state_dict())
    assert second.position == first.position
    finish(second)
    assert [r.picture.tobytes() for r in second.finished] == [r.picture.tobytes() for r in grid.finished]


def test_a_grid_has_every_combination_of_values_and_labels_it() -> None:
    vary = {"prompt": ["a tree", "a cat"], "learning_rate": ["0.1", "0.2"], "seed": [1, 2, 3]}
    grid = create_settings_grid(PaintSettings(**QUICK), vary)
    assert len(grid.cells) == 12 and grid.cells[4].settings.learning_rate == 0.2
    assert (grid.cells[0].row, grid.cells[0].label) == ("learning_rate 0.1 · a tree", "seed 1")
    assert {cell.settings.prompt for cell in grid.cells[6:]} == {"a cat"}
    one_seed = create_settings_grid(PaintSettings(**QUICK), {"prompt": ["a", "b"]})
    assert len({cell.settings.seed for cell in one_seed.cells}) == 1
    for vary, message in (({"sed": [1]}, "did you mean 'seed'"), ({"learning_rate": [-1]}, "learning_rate -1")):
        with pytest.raises(UserError, match=message):
            create_settings_grid(PaintSettings(**QUICK), vary)
    with pytest.raises(UserError, match="257 paintings"):
        create_settings_grid(PaintSettings(**QUICK), {"seed": list(range(257))})
