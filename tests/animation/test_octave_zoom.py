"""The octave zoom: geometry, pins, frames that are resampled and never jump."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vqtools.animation.octave_plan import RewindPoint
from vqtools.animation.octave_pyramid import (
    downscale,
)
from vqtools.core.errors import UserError
from vqtools.media.image import load_picture, to_picture
from vqtools.media.png_record import read_record

Make = Callable[..., Any]


def run(job: Any) -> Any:
    while job.position < job.total:
        before = job.position
        job.step()
        assert job.position == before + 1
    return job


def test_the_centre_stays_fixed_while_the_surroundings_are_painted(octaves: Make, tmp_path: Path) -> None:
    job = octaves(tmp_path, frames=3, zoom="2", learning_rate=1.0)
    while len(job.pictures) < 1 or job._current_job.position < 2:
        job.step()
    state = job._current_job.painter.state_dict()
    moved = (state["latents"] - state["start"]).abs().amax((0, 1)) > 1e-6
    rows, columns = moved.shape  # 8 and 16
    assert not moved[rows // 2 - 1 : rows // 2 + 1, columns // 2 - 2 : columns // 2 + 2].any()
    assert moved[0].any() and moved[-1].any()
    run(job)
    for inner, outer in pairwise(job.pictures):
        assert (outer[..., 7:9, 13:19] - downscale(inner)[..., 3:5, 5:11]).abs().max() < 0.01


@pytest.mark.parametrize("zoom", ["1.3", "0.75"])
def test_a_looped_octave_zoom_ends_close_to_its_start(octaves: Make, tmp_path: Path, zoom: str) -> None:
    job = run(octaves(tmp_path, zoom=zoom, frames=12, loop=True))
    assert job.count == round(12 * abs(math.log2(float(zoom)))) + 1
    pictures = [torch.tensor(bytearray(picture)).float() for picture in shots(tmp_path)]
    steps = torch.tensor([(a - b).abs().mean() for a, b in pairwise(pictures)])
    assert len(pictures) == 12 and (pictures[-1] - pictures[0]).abs().mean() <= steps.median()


def shots(folder: Path) -> list[bytes]:
    return [load_picture(path).tobytes() for path in sorted((folder / "frames").glob("*.png"))]


def test_a_run_resumed_at_any_step_makes_the_same_frames(octaves: Make, tmp_path: Path) -> None:
    run(octaves(tmp_path / "whole"))
    expected = shots(tmp_path / "whole")
    assert len(expected) == 8
    for stop in (2, 4, 10, 14):
        job = octaves(tmp_path / f"{stop}")
        while job.position < stop:
            job.step()
        state = job.state_dict()
        again = run(octaves(tmp_path / f"{stop}"))  # from the folder alone
        assert shots(tmp_path / f"{stop}") == expected and again.done == 8
        other = octaves(tmp_path / f"{stop} state")
        other.load_state_dict(state)
        assert other.position == stop
        for number in range(other.frames_written):
            (tmp_path / f"{stop} state" / "frames").mkdir(exist_ok=True)
            (tmp_path / f"{stop} state" / "frames" / f"frame-{number:05d}.png").write_bytes(
                (tmp_path / "whole" / "frames" / f"frame-{number:05d}.png").read_bytes()
            )
        run(other)
        assert shots(tmp_path / f"{stop} state") == expected


@pytest.mark.parametrize("zoom", ["1.4", "0.7", "where(t<4, 0.7, 1.4)"])
def test_rewind_keeps_earlier_frames_and_follows_the_new_prompt(octaves: Make, tmp_path: Path, zoom: str) -> None:
    fields = {"frames": 16, "zoom": zoom, "iterations": 8, "learning_rate": 1.0, "crossfade": 2}
    job = run(octaves(tmp_path / "film", **fields))
    before, painted = shots(tmp_path / "film"), [picture.clone() for picture in job.pictures]
    files = {path.name: path.read_bytes() for path in (tmp_path / "film" / "octaves").iterdir()}
    assert job.rewind(9) == 7 and shots(tmp_path / "film") == before[:7]
    kept = range(math.floor(min(job.levels[:7])), math.ceil(max(job.levels[:7])) + 1)
    assert sorted(job.painted) == list(kept) and 2 <= len(kept) < job.count
    job.steer({"prompt": "the blue sea"})
    run(job)
    after = shots(tmp_path / "film")
    assert (
        after[:7] == before[:7] and len(after) == 16 and all(a != b for a, b in zip(after[9:], before[9:], strict=True))
    )
    for k in range(job.count):
        path = tmp_path / "film" / "octaves" / f"octave-{k:03d}.png"
        assert (path.read_bytes() == files[path.name]) == (k in kept), k
        if k not in kept:
            assert read_record(path)["shown"] == "the blue sea"
            assert (job.painted[k] - painted[k]).abs().mean() > 0.05
    again = run(octaves_like(octaves, job, tmp_path / "film"))
    assert shots(tmp_path / "film") == after and again.rewind_point == job.rewind_point


def octaves_like(octaves: Make, job: Any, folder: Path) -> Any:
    """The job as a new process creates it from the folder."""
    return octaves(folder, record=job.project.record, **job.settings.model_dump())


def test_frames_change_smoothly_at_a_rewind_point(octaves: Make, tmp_path: Path) -> None:
    job = run(octaves(tmp_path, frames=24, zoom="1.1", crossfade=6))
    job.rewind(16)
    job.steer({"prompt": "the blue sea"})
    run(job)
    frames = [torch.tensor(bytearray(picture)).float() for picture in shots(tmp_path)]
    steps = torch.tensor([(a - b).abs().mean() for a, b in pairwise(frames)])
    assert steps[7] < 1.5 * steps.median()  # from the last that stayed to the first of the new path
    assert steps.max() < 2 * steps.median()


def test_the_fade_at_a_rewind_point_shows_no_outlines_of_later_pictures(octaves: Make, tmp_path: Path) -> None:
    job = run(octaves(tmp_path, size=(64, 64), iterations=1, frames=24, zoom="1.1", crossfade=12))
    job.rewind(10)
    run(job)
    middle = (..., slice(28, 36), slice(28, 36))

    def contrast(inner: Tensor, point: RewindPoint) -> float:
        job.painted[0], job.rewind_point, job._matched = inner.expand(1, 3, 64, 64), point, []
        return float(job.render_frame(14)[middle].std())

    plain, stripes = torch.zeros(64, 64), torch.arange(64) // 4 % 2 * 2.0 - 1
    point, no_point = job.rewind_point, RewindPoint(0, 1)
    assert point == RewindPoint(14, 1) and contrast(plain, no_point) < 0.01
    to_picture(job.render_frame(13)).save(tmp_path / "frames" / "frame-00013.png")
    assert contrast(stripes, point) < 0.05 * contrast(stripes, no_point)


def test_the_preview_after_a_rewind_is_the_last_kept_frame(octaves: Make, tmp_path: Path) -> None:
    job = run(octaves(tmp_path, frames=12))
    job.rewind(8)
    assert job.preview().tobytes() == shots(tmp_path)[-1]
    job.step()
    assert job.preview().tobytes() != shots(tmp_path)[-1]


def test_a_run_killed_after_a_rewind_makes_the_same_frames(octaves: Make, tmp_path: Path) -> None:
    fields = {"frames": 10, "zoom": "1.4", "crossfade": 2}

    def rewound_job(name: str) -> Any:
        job = run(octaves(tmp_path / name, **fields))
        job.rewind(6)
        job.steer({"prompt": "the blue sea"})
        return job

    whole = run(rewound_job("whole"))
    expected = shots(tmp_path / "whole")
    job, count = rewound_job("killed"), 0
    while job.position < job.total:
        job.step()
        if (now := len(job.painted) + job.frames_written) != count:  # a file was written: as if killed right after
            count, job = now, octaves_like(octaves, job, tmp_path / "killed")
            assert len(job.painted) + job.frames_written == now
    assert shots(tmp_path / "killed") == expected and job.rewind_point == whole.rewind_point


def test_an_interrupted_rewind_is_finished_by_the_next_run(
    octaves: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = run(octaves(tmp_path / "film", frames=10, zoom="1.4"))
    before = shots(tmp_path / "film")
    with monkeypatch.context() as patch:
        patch.setattr(type(job), "_delete_discarded", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            job.rewind(6)
    assert shots(tmp_path / "film") == before
    record = json.loads((tmp_path / "film" / "settings.json").read_text())
    again = octaves_like(octaves, job, tmp_path / "film")
    assert record["turn"]["frame"] == 4 and shots(tmp_path / "film") == before[:4]
    assert again.done == 4 and 0 < len(again.painted) < again.count


def test_invalid_rewinds_and_changes_raise_user_error(octaves: Make, tmp_path: Path) -> None:
    job = run(octaves(tmp_path / "film", frames=6, zoom="1.4"))
    with pytest.raises(UserError, match="9 frames can't be removed: the folder holds 6"):
        job.rewind(9)
    with pytest.raises(UserError, match="zoom can't change in an octave zoom that is begun"):
        job.steer({"zoom": "1.1"})
    assert job.rewind(6) == 0 and not job.painted and job.rewind_point == RewindPoint()
    loop = run(octaves(tmp_path / "loop", frames=4, zoom="1.4", loop=True))
    with pytest.raises(UserError, match="its end leads to its beginning"):
        loop.rewind(1)
