"""Replays of a record: at which step they stop, and which records cannot be replayed."""

from __future__ import annotations

from pathlib import Path

import pytest

from vqtools.core.errors import UserError
from vqtools.core.job import finish
from vqtools.media.image import load_picture
from vqtools.media.png_record import read_record
from vqtools.pipelines.reproduce import initial_settings, replay


def test_a_replay_repeats_the_edits_and_makes_the_same_picture(edited_picture: Path) -> None:
    record = read_record(edited_picture)
    session = replay(record)
    assert session.settings.prompt == "a red apple" and session.stop_at is None
    assert finish(session).picture().tobytes() == load_picture(edited_picture).tobytes()
    assert session.revision == 1 and session.record()["journal"] == record["journal"]


@pytest.mark.parametrize(("position", "stop_at"), [(2, 2), (0, None), ("3", None), (None, None), (10**6, None)])
def test_a_replay_stops_where_its_run_was_stopped(edited_picture: Path, position: object, stop_at: int | None) -> None:
    assert replay({**read_record(edited_picture), "position": position}).stop_at == stop_at


def test_the_size_can_be_another(edited_picture: Path) -> None:
    record = read_record(edited_picture)
    assert initial_settings(record).size == (64, 64) and initial_settings(record, size=(128, 64)).size == (128, 64)


def test_only_paintings_are_replayed(edited_picture: Path) -> None:
    with pytest.raises(UserError, match="'grid', not painted"):
        initial_settings({**read_record(edited_picture), "activity": "grid"})
