"""Steering: edits, strokes, undo, branches, and the journal that makes a steered picture again."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from vqtools.core.errors import UserError
from vqtools.core.state_file import load_state, save_state
from vqtools.painting.painter import Painter
from vqtools.painting.session import PaintSession

Make = Callable[..., Painter]
LEFT, RIGHT = (0, 0, 12, 16), (12, 0, 24, 16)  # of a picture of 24x16


def run(easel: PaintSession, steps: int) -> PaintSession:
    for _ in range(steps):
        easel.step()
    return easel


def same(a: Any, b: Any) -> bool:
    """Whether two paintings are in the same state, bit for bit."""
    return _equal(a.state_dict(), b.state_dict())


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    return bool(a == b)


def steered(painter: Make, **fields: Any) -> PaintSession:
    """A run in which much happens: edits, regions, undone ways, paint over a part."""
    easel = PaintSession(painter(iterations=14, **fields))
    run(easel, 2).edit({"prompt": "a blue sea | a red apple:2", "cutouts": 4})
    run(easel, 2).set_region(1, tuple(edge * easel.settings.size[0] // 24 for edge in LEFT))
    run(easel, 2).edit({"learning_rate": 0.3, "optimiser": "AdamW"})
    run(easel, 1).undo()
    run(easel, 3).repaint(tuple(edge * easel.settings.size[0] // 24 for edge in RIGHT))
    run(easel, 2).edit({"saturation": 1.0, "iterations": 12})
    return easel


def test_an_easel_left_alone_changes_nothing(painter: Make) -> None:
    bare, easel = painter(), PaintSession(painter())
    for _ in range(8):
        assert easel.step() == bare.step()
    assert same(easel.job, bare)
    assert "journal" not in easel.record() and easel.record()["settings"]["seed"] == 1


def test_an_edit_in_mid_run_equals_starting_from_that_state_with_the_edit(painter: Make) -> None:
    easel = run(PaintSession(painter()), 3)
    other = painter(prompt="a blue sea", cutouts=3, cut_method="overview")
    other.load_state_dict(easel.job.state_dict())
    easel.edit({"prompt": "a blue sea", "cutouts": 3, "cut_method": "overview"})
    assert [easel.step() for _ in range(3)] == [other.step() for _ in range(3)]
    assert same(easel.job, other)


def test_undo_takes_back_the_last_edit_and_redo_brings_all_back(painter: Make) -> None:
    easel = run(PaintSession(painter()), 3)
    untouched = run(PaintSession(painter()), 3)
    easel.edit({"prompt": "a blue sea"})
    run(easel, 2).protect(LEFT)
    after = run(easel, 1).job.state_dict()
    easel.undo()
    assert (easel.position, easel.settings.prompt, easel.job.masks) == (5, "a blue sea", {})
    easel.undo()
    assert same(easel.job, untouched.job) and easel.settings == untouched.settings
    easel.redo()
    easel.redo()
    assert _equal(easel.job.state_dict(), after) and easel.settings.prompt == "a blue sea"
    assert not easel.can_redo
    easel.undo()
    run(easel, 1).edit({"cutouts": 3})
    with pytest.raises(UserError, match="nothing to redo"):
        easel.redo()


def test_undo_without_edits_goes_back_in_time_to_the_beginning(painter: Make) -> None:
    easel = run(PaintSession(painter()), 3)
    while easel.position:
        easel.undo()
    assert same(easel.job, painter())
    with pytest.raises(UserError, match="nothing to undo"):
        easel.undo()


def test_a_branch_begins_where_the_run_was(painter: Make) -> None:
    easel, short = (
        PaintSession(painter(), budget=1),
        PaintSession(painter()),
    )  # no room for moments: what lies between is made again
    run(easel, 2).edit({"prompt": "a blue sea"})
    run(easel, 5)
    assert easel.positions[0] == 0 and easel.positions[-1] == 7 and len(easel.positions) < 5
    easel.branch(4)
    run(short, 2).edit({"prompt": "a blue sea"})
    assert same(easel.job, run(short, 2).job) and easel.settings == short.settings
    easel.branch(2)  # before what was done at that step
    assert easel.settings.prompt == painter().settings.prompt
    with pytest.raises(UserError, match="step 9 is not part of this run"):
        easel.branch(9)


def test_a_journal_replayed_makes_the_same_bits(painter: Make) -> None:
    easel = steered(painter)
    while easel.position < easel.total:
        easel.step()
    record = json.loads(json.dumps(easel.record()))
    assert [entry["do"] for entry in record["journal"]] == ["edit", "region", "edit", "go", "repaint", "edit"]
    assert record["settings"]["prompt"].startswith("a blue sea") and "apple:1.5" in record["began"]["prompt"]
    again = PaintSession(painter(**record["began"]), record=record)
    while again.position < again.total:
        again.step()
    assert same(again.job, easel.job)
    assert again.record()["settings"] == record["settings"]
    assert len(again.record()["journal"]) == 4  # the way that was given up is not gone again


def test_a_journal_replayed_larger_is_as_far_and_as_large(painter: Make) -> None:
    record = steered(painter).record()
    large = PaintSession(painter(**{**record["began"], "size": (48, 32)}), record=record)
    while large.position < large.total:
        large.step()
    assert large.picture().size == (48, 32) and large.position == 12
    assert len(large.job.masks) == 2


def test_an_edit_after_the_end_that_made_the_run_longer_is_followed(painter: Make) -> None:
    easel = run(PaintSession(painter(iterations=3)), 3)
    easel.edit({"iterations": 5})
    run(easel, 2)
    again = PaintSession(painter(iterations=3), record=easel.record())
    while again.position < again.total:
        again.step()
    assert again.position == 5 and same(again.job, easel.job)


def test_stopped_at_any_step_and_resumed_equals_never_stopped(painter: Make, tmp_path: Any) -> None:
    whole, first = steered(painter), steered(painter)
    file = save_state(tmp_path / "state.safetensors", first.state_dict())
    resumed = PaintSession(painter(iterations=14, seed=99))
    resumed.load_state_dict(load_state(file))
    for easel in (whole, resumed):
        run(easel, 1).edit({"cutouts": 2})
        run(easel, 1)
    assert same(whole.job, resumed.job)
    assert whole.record() == resumed.record()


def test_a_replay_stopped_half_way_goes_on_following(painter: Make, tmp_path: Any) -> None:
    record = steered(painter).record()
    first = run(PaintSession(painter(**record["began"]), record=record), 3)
    resumed = PaintSession(painter(**record["began"]))
    resumed.load_state_dict(load_state(save_state(tmp_path / "s.safetensors", first.state_dict())))
    while resumed.position < resumed.total:
        resumed.step()
    while first.position < first.total:
        first.step()
    assert same(resumed.job, first.job) and resumed.position == 12


def test_a_setting_assigned_in_place_is_written_down_too(painter: Make) -> None:
    easel = run(PaintSession(painter()), 1)
    easel.settings.prompt = "a blue sea"
    easel.step()
    easel.settings = easel.settings.model_copy(update={"cutouts": 2})
    changes = [(entry["step"], entry["settings"]) for entry in easel.record()["journal"]]
    assert changes == [(1, {"prompt": "a blue sea"}), (2, {"cutouts": 2})]


def test_a_preset_in_mid_run_sets_what_it_stands_for(painter: Make) -> None:
    easel = PaintSession(painter())
    easel.edit({"preset": "best"})
    assert (easel.settings.iterations, easel.settings.cutouts) == (400, 24)


def test_changes_forced_by_memory_are_logged_but_not_undone(painter: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vqtools.painting.snapshots._SNAPSHOT_TIME_DIVISOR", 0)  # a snapshot at each step
    easel = run(PaintSession(painter(cutouts=8)), 2)
    clip = easel.job.clips[0]
    embed = clip.embed_image

    def small(images: torch.Tensor) -> torch.Tensor:
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return embed(images)

    clip.embed_image = small
    run(easel, 2)
    assert easel.edit_log.entries == [{"step": 2, "do": "edit", "settings": {"group": 2}, "why": "memory"}]
    clip.embed_image = embed
    again = PaintSession(painter(cutouts=8), record=easel.record())
    assert same(run(again, 4).job, easel.job)
    easel.undo()
    assert easel.position == 3


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"size": (32, 16)}, "size cannot be changed during a run; it takes effect from the next run"),
        ({"cutouts": 0}, "cutouts 0: must be 1 to 4096"),
        ({"prompt": "apple:nan"}, "finite"),
        ({"cutuots": 3}, "there is no setting 'cutuots'"),
    ],
)
def test_an_impossible_edit_changes_nothing(painter: Make, changes: dict[str, Any], says: str) -> None:
    easel = run(PaintSession(painter()), 1)
    before = easel.settings.model_copy()
    with pytest.raises(UserError, match=says):
        easel.edit(changes)
    assert easel.settings == before and easel.edit_log.entries == []


def test_a_region_that_is_none_changes_nothing(painter: Make) -> None:
    easel = run(PaintSession(painter()), 1)
    with pytest.raises(UserError, match="there is no prompt 3 to give a region to; there are 2"):
        easel.set_region(2, LEFT)
    for mask in ((20, 0, 40, 16), (-4, 0, 8, 8), torch.zeros(16, 24)):
        with pytest.raises(UserError, match="outside the picture"):
            easel.protect(mask)
    with pytest.raises(UserError, match="in the picture's proportions"):
        easel.set_region(0, torch.ones(64, 64))
    assert easel.edit_log.entries == []
    assert easel.job.masks == {}
