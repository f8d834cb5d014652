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
import torch.nn.functional as F
from torch import Tensor

from vqtools.animation.octave_plan import RewindPoint
from vqtools.animation.octave_pyramid import (
    close_loop,
    downscale,
    find_loop_offset,
    insert_centre,
    match_rims,
    render_level,
    zoom_about_centre,
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


def world(level: float, side: int = 64) -> Tensor:
    """One continuous picture of everything, seen 2^level wide: smooth, and alike at every scale."""
    axis = (torch.arange(side) + 0.5) / side * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    radius, turn = (x.square() + y.square()).sqrt() + 1e-6, torch.atan2(y, x)
    rings = torch.cos(math.pi * (radius.log2() + level)) * torch.cos(2 * turn) * (radius.clamp(max=0.3) / 0.3)
    return torch.stack([rings, rings, rings])[None] * 0.8


def test_frames_are_the_world_at_their_level() -> None:
    pictures = match_rims([world(float(k)) for k in range(4)])
    for level in (0.0, 0.3, 0.5, 0.99, 1.0, 1.7, 3.0):
        seen = render_level(pictures, level)
        error = (seen - world(level)).abs()
        assert error.mean() < 0.01, level
        assert error.max() < 0.35, level  # in the middle pixels, where the rings are finer than any pixel


def test_neighbouring_frames_differ_little_also_across_a_doubling() -> None:
    noise = [torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(k)) * 2 - 1 for k in range(4)]
    pictures = noise[:1]
    for outer in noise[1:]:
        pictures.append(insert_centre(outer, pictures[-1]))
    pictures = match_rims(pictures)
    places = [0.9 + 0.01 * i for i in range(21)]
    shots = [render_level(pictures, place) for place in places]
    steps = torch.tensor([(a - b).abs().mean() for a, b in pairwise(shots)])
    assert steps.max() < 1.5 * steps.median()
    assert torch.equal(render_level(pictures, 2.0), pictures[2])


def test_nothing_sharpens_or_softens_at_once_where_a_picture_hands_over_to_the_next() -> None:
    noise = [torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(k)) * 1.2 - 0.6 for k in range(4)]
    assert torch.equal(zoom_about_centre(noise[0], 1.0), noise[0])
    assert torch.allclose(zoom_about_centre(noise[0], 0.5)[..., 16:48, 16:48], downscale(noise[0]), atol=1e-5)
    pictures = noise[:1]
    for outer in noise[1:]:
        pictures.append(insert_centre(outer, pictures[-1]))
    settled = match_rims(pictures)
    for k in (1, 2, 3):
        jump = (render_level(settled, k - 1e-6) - render_level(settled, k)).abs()
        assert jump.mean() < 0.004, k  # of values from -1 to 1: half a step of 255


def test_the_middle_is_the_picture_before_at_half_its_size() -> None:
    outer, inner = torch.zeros(1, 3, 32, 48), world(0, 64)[..., :32, :48]
    out = insert_centre(outer, inner)
    assert torch.equal(out[..., 12:20, 18:30], downscale(inner)[..., 4:12, 6:18])
    assert not out[..., :8, :].any() and not out[..., :, :12].any()


def test_a_settled_picture_has_no_edge_against_the_wider_one() -> None:
    plain = [torch.full((1, 3, 64, 64), value) for value in (-0.8, 0.8)]
    pictures = [plain[0], insert_centre(plain[1], plain[0])]
    for level in (0.05, 0.5, 0.9):
        seen = render_level(match_rims(pictures), level)[0, 0, 32]
        assert (seen[1:] - seen[:-1]).abs().max() < 0.6  # of a step of 1.6


def test_levels_follow_the_zoom(octaves: Make, tmp_path: Path) -> None:
    inwards = octaves(tmp_path / "in", frames=5, zoom="2")
    assert inwards.levels == [4, 3, 2, 1, 0] and inwards.count == 5
    outwards = octaves(tmp_path / "out", frames=4, zoom="2**-0.5")
    assert outwards.levels == pytest.approx([0, 0.5, 1, 1.5]) and outwards.count == 3
    there_and_back = octaves(tmp_path / "back", frames=5, zoom="where(t<3, 2, 0.5)")
    assert there_and_back.levels == [2, 1, 0, 1, 2]
    assert octaves(tmp_path / "still", zoom="1").count == 1


def test_each_scene_has_its_octave_in_the_order_it_is_seen(octaves: Make, tmp_path: Path) -> None:
    inwards = octaves(tmp_path / "in", frames=4, zoom="2", prompt="a ^ b ^ c")
    assert [inwards.prompt(k) for k in range(4)] == ["a", "c", "b", "a"]
    outwards = octaves(tmp_path / "out", frames=4, zoom="0.5", prompt="a ^ b ^ c")
    assert [outwards.prompt(k) for k in range(4)] == ["a", "b", "c", "a"]
    timed = octaves(tmp_path / "at", frames=4, zoom="2", prompts_at="0: x, 2: y", crossfade=0)
    assert [timed.prompt(k) for k in range(4)] == ["y", "y", "x", "x"]


def test_the_middle_is_pinned_while_the_surroundings_are_painted(octaves: Make, tmp_path: Path) -> None:
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


def test_a_ring_of_pictures_holds_itself() -> None:
    noise = [torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(k)) * 1.2 - 0.6 for k in range(3)]
    ring = close_loop(noise)
    for k in range(3):
        middle = ring[k][..., 26:38, 26:38] - downscale(ring[k - 1])[..., 10:22, 10:22]
        assert middle.abs().max() < 0.02, k
    settled = match_rims(ring, ring=True)
    for k in (1, 2, 3):  # where it closes is a doubling like the others
        assert (
            render_level(settled, k - 1e-6, ring=True) - render_level(settled, k % 3, ring=True)
        ).abs().mean() < 0.004, k


@pytest.mark.parametrize("zoom", ["1.3", "0.75"])
def test_a_looped_octave_zoom_ends_where_it_began(octaves: Make, tmp_path: Path, zoom: str) -> None:
    job = run(octaves(tmp_path, zoom=zoom, frames=12, loop=True))
    assert job.count == round(12 * abs(math.log2(float(zoom)))) + 1
    pictures = [torch.tensor(bytearray(one)).float() for one in shots(tmp_path)]
    steps = torch.tensor([(a - b).abs().mean() for a, b in pairwise(pictures)])
    assert len(pictures) == 12 and (pictures[-1] - pictures[0]).abs().mean() <= steps.median()


def test_the_last_frame_is_no_farther_from_the_first_than_neighbours_are() -> None:
    worst = 0.0
    for seed, count in ((0, 12), (1, 24), (2, 25), (3, 40)):
        source = torch.Generator().manual_seed(seed)
        soft = [
            F.interpolate(torch.rand(1, 3, 8, 8, generator=source) * 1.6 - 0.8, size=64, mode="bicubic")
            for _ in range(3)
        ]
        settled = match_rims(close_loop(soft), ring=True)
        found = [3 * frame / count for frame in range(count)]
        begins = find_loop_offset(settled, found)
        assert 0 < abs(begins) <= 0.5
        seams = []
        for shift in (begins, 0.0):
            seen = [render_level(settled, (level + shift) % 3, ring=True) for level in found]
            steps = torch.tensor([(a - b).abs().mean() for a, b in pairwise([*seen, seen[0]])])
            seams.append(float(steps[-1] / steps[:-1].median()))
        assert seams[0] <= 1, (seed, seams)
        worst = max(worst, seams[1])
    assert worst > 1.02  # begun anywhere


def shots(folder: Path) -> list[bytes]:
    return [load_picture(path).tobytes() for path in sorted((folder / "frames").glob("*.png"))]


def test_stopped_anywhere_and_resumed_equals_never_stopped(octaves: Make, tmp_path: Path) -> None:
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
        for number in range(other.frames):
            (tmp_path / f"{stop} state" / "frames").mkdir(exist_ok=True)
            (tmp_path / f"{stop} state" / "frames" / f"frame-{number:05d}.png").write_bytes(
                (tmp_path / "whole" / "frames" / f"frame-{number:05d}.png").read_bytes()
            )
        run(other)
        assert shots(tmp_path / f"{stop} state") == expected


def test_what_cannot_be(octaves: Make, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="doublings; at most 60"):
        octaves(tmp_path, zoom="9", frames=99)
    with pytest.raises(UserError, match="both sides must be even"):
        octaves(tmp_path, size=(31, 16))
    with pytest.raises(UserError, match="ends where it began"):
        octaves(tmp_path, loop=True, zoom="1")


@pytest.mark.parametrize("zoom", ["1.4", "0.7", "where(t<4, 0.7, 1.4)"])
def test_another_path_keeps_the_frames_before_it_and_follows_the_new_prompt(
    octaves: Make, tmp_path: Path, zoom: str
) -> None:
    fields = {"frames": 16, "zoom": zoom, "iterations": 8, "learning_rate": 1.0, "crossfade": 2}
    job = run(octaves(tmp_path / "film", **fields))
    before, painted = shots(tmp_path / "film"), [one.clone() for one in job.pictures]
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
    """The job as a new process makes it of the folder."""
    return octaves(folder, record=job.project.record, **job.settings.model_dump())


def test_a_turn_is_no_jump(octaves: Make, tmp_path: Path) -> None:
    job = run(octaves(tmp_path, frames=24, zoom="1.1", crossfade=6))
    job.rewind(16)
    job.steer({"prompt": "the blue sea"})
    run(job)
    seen = [torch.tensor(bytearray(one)).float() for one in shots(tmp_path)]
    steps = torch.tensor([(a - b).abs().mean() for a, b in pairwise(seen)])
    assert steps[7] < 1.5 * steps.median()  # from the last that stayed to the first of the new path
    assert steps.max() < 2 * steps.median()


def test_a_turn_shows_no_outlines_of_what_is_to_come(octaves: Make, tmp_path: Path) -> None:
    job = run(octaves(tmp_path, size=(64, 64), iterations=1, frames=24, zoom="1.1", crossfade=12))
    job.rewind(10)
    run(job)
    middle = (..., slice(28, 36), slice(28, 36))

    def contrast(inner: Tensor, turn: RewindPoint) -> float:
        job.painted[0], job.rewind_point, job._matched = inner.expand(1, 3, 64, 64), turn, []
        return float(job.render_frame(14)[middle].std())

    plain, stripes = torch.zeros(64, 64), torch.arange(64) // 4 % 2 * 2.0 - 1
    turn, none = job.rewind_point, RewindPoint(0, 1)
    assert turn == RewindPoint(14, 1) and contrast(plain, none) < 0.01
    to_picture(job.render_frame(13)).save(tmp_path / "frames" / "frame-00013.png")
    assert contrast(stripes, turn) < 0.05 * contrast(stripes, none)


def test_what_is_not_begun_is_not_shown(octaves: Make, tmp_path: Path) -> None:
    job = run(octaves(tmp_path, frames=12))
    job.rewind(8)
    assert job.preview().tobytes() == shots(tmp_path)[-1]
    job.step()
    assert job.preview().tobytes() != shots(tmp_path)[-1]


def test_another_path_killed_anywhere_is_gone_on_with(octaves: Make, tmp_path: Path) -> None:
    fields = {"frames": 10, "zoom": "1.4", "crossfade": 2}

    def film(name: str) -> Any:
        job = run(octaves(tmp_path / name, **fields))
        job.rewind(6)
        job.steer({"prompt": "the blue sea"})
        return job

    whole = run(film("whole"))
    expected = shots(tmp_path / "whole")
    job, made = film("killed"), 0
    while job.position < job.total:
        job.step()
        if (there := len(job.painted) + job.frames) != made:  # something was written: as if killed right after
            made, job = there, octaves_like(octaves, job, tmp_path / "killed")
            assert len(job.painted) + job.frames == there
    assert shots(tmp_path / "killed") == expected and job.rewind_point == whole.rewind_point


def test_a_rewinding_that_was_killed_is_finished(
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


def test_what_another_path_cannot_be(octaves: Make, tmp_path: Path) -> None:
    job = run(octaves(tmp_path / "film", frames=6, zoom="1.4"))
    with pytest.raises(UserError, match="9 frames can't be removed: the folder holds 6"):
        job.rewind(9)
    with pytest.raises(UserError, match="zoom can't change in an octave zoom that is begun"):
        job.steer({"zoom": "1.1"})
    assert job.rewind(6) == 0 and not job.painted and job.rewind_point == RewindPoint()
    loop = run(octaves(tmp_path / "loop", frames=4, zoom="1.4", loop=True))
    with pytest.raises(UserError, match="its end leads to its beginning"):
        loop.rewind(1)
