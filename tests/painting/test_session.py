"""Sessions: edits, masks, undo, branches, and replays of the edit log."""

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


def run(session: PaintSession, steps: int) -> PaintSession:
    for _ in range(steps):
        session.step()
    return session


def same(a: Any, b: Any) -> bool:
    """Whether two paintings are in the same state, bit for bit."""
    return _equal(a.state_dict(), b.state_dict())


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    return bool(a == b)


def edited_run(painter: Make, **fields: Any) -> PaintSession:
    """A run with edits, a region, an undone step and a repainted area."""
    session = PaintSession(painter(iterations=14, **fields))
    run(session, 2).edit({"prompt": "a blue sea | a red apple:2", "cutouts": 4})
    run(session, 2).set_region(1, tuple(edge * session.settings.size[0] // 24 for edge in LEFT))
    run(session, 2).edit({"learning_rate": 0.3, "optimiser": "AdamW"})
    run(session, 1).undo()
    run(session, 3).repaint(tuple(edge * session.settings.size[0] // 24 for edge in RIGHT))
    run(session, 2).edit({"saturation": 1.0, "iterations": 12})
    return session


def test_a_session_without_edits_equals_its_job(painter: Make) -> None:
    bare, session = painter(), PaintSession(painter())
    for _ in range(8):
        assert session.step() == bare.step()
    assert same(session.job, bare)
    assert "journal" not in session.record() and session.record()["settings"]["seed"] == 1


def test_an_edit_equals_continuing_the_state_with_the_new_settings(painter: Make) -> None:
    session = run(PaintSession(painter()), 3)
    other = painter(prompt="a blue sea", cutouts=3, cut_method="overview")
    other.load_state_dict(session.job.state_dict())
    session.edit({"prompt": "a blue sea", "cutouts": 3, "cut_method": "overview"})
    assert [session.step() for _ in range(3)] == [other.step() for _ in range(3)]
    assert same(session.job, other)


def test_undo_restores_the_state_before_an_edit_and_redo_the_state_after(painter: Make) -> None:
    session = run(PaintSession(painter()), 3)
    untouched = run(PaintSession(painter()), 3)
    session.edit({"prompt": "a blue sea"})
    run(session, 2).protect(LEFT)
    after = run(session, 1).job.state_dict()
    session.undo()
    assert (session.position, session.settings.prompt, session.job.masks) == (5, "a blue sea", {})
    session.undo()
    assert same(session.job, untouched.job) and session.settings == untouched.settings
    session.redo()
    session.redo()
    assert _equal(session.job.state_dict(), after) and session.settings.prompt == "a blue sea"
    assert not session.can_redo
    session.undo()
    run(session, 1).edit({"cutouts": 3})
    with pytest.raises(UserError, match="nothing to redo"):
        session.redo()


def test_undo_without_edits_goes_back_to_the_start(painter: Make) -> None:
    session = run(PaintSession(painter()), 3)
    while session.position:
        session.undo()
    assert same(session.job, painter())
    with pytest.raises(UserError, match="nothing to undo"):
        session.undo()


def test_a_branch_starts_from_the_state_at_its_step(painter: Make) -> None:
    session, short = (
        PaintSession(painter(), budget=1),
        PaintSession(painter()),
    )  # no room for snapshots: steps between are repeated
    run(session, 2).edit({"prompt": "a blue sea"})
    run(session, 5)
    assert session.positions[0] == 0 and session.positions[-1] == 7 and len(session.positions) < 5
    session.branch(4)
    run(short, 2).edit({"prompt": "a blue sea"})
    assert same(session.job, run(short, 2).job) and session.settings == short.settings
    session.branch(2)  # before the edit at that step
    assert session.settings.prompt == painter().settings.prompt
    with pytest.raises(UserError, match="step 9 is not part of this run"):
        session.branch(9)


def test_a_replay_gives_the_same_bits(painter: Make) -> None:
    session = edited_run(painter)
    while session.position < session.total:
        session.step()
    record = json.loads(json.dumps(session.record()))
    assert [entry["do"] for entry in record["journal"]] == ["edit", "region", "edit", "go", "repaint", "edit"]
    assert record["settings"]["prompt"].startswith("a blue sea") and "apple:1.5" in record["began"]["prompt"]
    again = PaintSession(painter(**record["began"]), record=record)
    while again.position < again.total:
        again.step()
    assert same(again.job, session.job)
    assert again.record()["settings"] == record["settings"]
    assert len(again.record()["journal"]) == 4  # the abandoned branch is not replayed


def test_a_replay_at_another_size_follows_all_edits(painter: Make) -> None:
    record = edited_run(painter).record()
    large = PaintSession(painter(**{**record["began"], "size": (48, 32)}), record=record)
    while large.position < large.total:
        large.step()
    assert large.picture().size == (48, 32) and large.position == 12
    assert len(large.job.masks) == 2


def test_an_edit_after_the_end_that_extended_the_run_is_replayed(painter: Make) -> None:
    session = run(PaintSession(painter(iterations=3)), 3)
    session.edit({"iterations": 5})
    run(session, 2)
    again = PaintSession(painter(iterations=3), record=session.record())
    while again.position < again.total:
        again.step()
    assert again.position == 5 and same(again.job, session.job)


def test_a_resumed_session_equals_an_uninterrupted_one(painter: Make, tmp_path: Any) -> None:
    whole, first = edited_run(painter), edited_run(painter)
    file = save_state(tmp_path / "state.safetensors", first.state_dict())
    resumed = PaintSession(painter(iterations=14, seed=99))
    resumed.load_state_dict(load_state(file))
    for session in (whole, resumed):
        run(session, 1).edit({"cutouts": 2})
        run(session, 1)
    assert same(whole.job, resumed.job)
    assert whole.record() == resumed.record()


def test_a_resumed_replay_follows_the_remaining_edits(painter: Make, tmp_path: Any) -> None:
    record = edited_run(painter).record()
    first = run(PaintSession(painter(**record["began"]), record=record), 3)
    resumed = PaintSession(painter(**record["began"]))
    resumed.load_state_dict(load_state(save_state(tmp_path / "s.safetensors", first.state_dict())))
    while resumed.position < resumed.total:
        resumed.step()
    while first.position < first.total:
        first.step()
    assert same(resumed.job, first.job) and resumed.position == 12


def test_settings_assigned_in_place_are_logged(painter: Make) -> None:
    session = run(PaintSession(painter()), 1)
    session.settings.prompt = "a blue sea"
    session.step()
    session.settings = session.settings.model_copy(update={"cutouts": 2})
    changes = [(entry["step"], entry["settings"]) for entry in session.record()["journal"]]
    assert changes == [(1, {"prompt": "a blue sea"}), (2, {"cutouts": 2})]


def test_editing_the_preset_sets_its_fields(painter: Make) -> None:
    session = PaintSession(painter())
    session.edit({"preset": "best"})
    assert (session.settings.iterations, session.settings.cutouts) == (400, 24)


def test_changes_forced_by_memory_are_logged_but_not_undone(painter: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vqtools.painting.snapshots._SNAPSHOT_TIME_DIVISOR", 0)  # a snapshot at each step
    session = run(PaintSession(painter(cutouts=8)), 2)
    clip = session.job.clips[0]
    embed = clip.embed_image

    def small(images: torch.Tensor) -> torch.Tensor:
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return embed(images)

    clip.embed_image = small
    run(session, 2)
    assert session.edit_log.entries == [{"step": 2, "do": "edit", "settings": {"group": 2}, "why": "memory"}]
    clip.embed_image = embed
    again = PaintSession(painter(cutouts=8), record=session.record())
    assert same(run(again, 4).job, session.job)
    session.undo()
    assert session.position == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": (32, 16)}, "size cannot be changed during a run; it takes effect from the next run"),
        ({"cutouts": 0}, "cutouts 0: must be 1 to 4096"),
        ({"prompt": "apple:nan"}, "finite"),
        ({"cutuots": 3}, "there is no setting 'cutuots'"),
    ],
)
def test_an_invalid_edit_changes_nothing(painter: Make, changes: dict[str, Any], message: str) -> None:
    session = run(PaintSession(painter()), 1)
    before = session.settings.model_copy()
    with pytest.raises(UserError, match=message):
        session.edit(changes)
    assert session.settings == before and session.edit_log.entries == []


def test_an_invalid_mask_changes_nothing(painter: Make) -> None:
    session = run(PaintSession(painter()), 1)
    with pytest.raises(UserError, match="there is no prompt 3 to give a region to; there are 2"):
        session.set_region(2, LEFT)
    for mask in ((20, 0, 40, 16), (-4, 0, 8, 8), torch.zeros(16, 24)):
        with pytest.raises(UserError, match="outside the picture"):
            session.protect(mask)
    with pytest.raises(UserError, match="in the picture's proportions"):
        session.set_region(0, torch.ones(64, 64))
    assert session.edit_log.entries == []
    assert session.job.masks == {}
