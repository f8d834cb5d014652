"""The animator: frames follow the settings, and an interrupted run continues with the same bits."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vqtools.animation import camera
from vqtools.animation.animator import Animator
from vqtools.animation.project import Project
from vqtools.core.errors import UserError
from vqtools.media.image import load_picture
from vqtools.media.png_record import read_record, save_png

Make = Callable[..., Any]


def run(job: Any, until: int | None = None) -> Any:
    while job.position < job.total and (until is None or job.done < until):
        job.step()
    return job


def frames(folder: Path) -> list[np.ndarray]:
    paths = sorted((folder / "frames").glob("frame-*.png"))
    assert [path.name for path in paths] == [f"frame-{i:05d}.png" for i in range(len(paths))]
    return [np.asarray(load_picture(path)) for path in paths]


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


RUNS: dict[str, dict[str, Any]] = {
    "plain": {},
    "all at once": {
        "cadence": 3, "loop": True, "frames": 10, "noise_schedule": "0.1", "antiblur": "0.1", "color_coherence": "LAB",
        "prompt": "a red apple ^ a green leaf", "motion": "tunnel", "border": "wrap", "seed_behavior": "iter",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_a_run_resumed_after_any_step_makes_the_same_frames(animator: Make, tmp_path: Path, name: str) -> None:
    whole = run(animator(tmp_path / "whole", **RUNS[name]))
    expected = frames(tmp_path / "whole")
    assert len(expected) == whole.settings.frames
    assert not same(expected[:1], expected[1:2])
    steps = 0
    broken = animator(tmp_path / "broken", **RUNS[name])
    while broken.position < broken.total:
        broken.step()
        steps += 1
        if broken.frames_made:
            broken = animator(tmp_path / "broken", **RUNS[name])  # as if the process was killed
    assert steps > 3 and same(frames(tmp_path / "broken"), expected)
    rows = (tmp_path / "broken" / "log.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == [
        row.split(",")[0] for row in (tmp_path / "whole" / "log.csv").read_text().splitlines()[1:]
    ]


KILLS = """
import os, random, signal, sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from conftest import First, settings_of
from vqtools.animation.animator import Animator
from vqtools.animation.project import Project

def work(folder):
    settings = settings_of(frames=12, cadence=2)
    job = Animator(settings, First(settings), Project(Path(folder), {{"settings": {{}}}}), seed=5)
    while job.position < job.total:
        job.step()

def child(folder):
    pid = os.fork()  # the libraries are imported once
    if not pid:
        work(folder)
        os._exit(0)
    return pid

started = time.monotonic()
os.waitpid(child({whole!r}), 0)
duration, delays, killed = time.monotonic() - started, random.Random(1), 0
for _ in range(20):
    pid = child({folder!r})
    time.sleep(delays.uniform(0, duration / 4))
    os.kill(pid, signal.SIGKILL)
    killed += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
work({folder!r})
print(killed)
"""


def test_a_run_killed_twenty_times_makes_the_same_frames(tmp_path: Path) -> None:
    folder, whole = tmp_path / "killed", tmp_path / "whole"
    program = KILLS.format(tests=str(Path(__file__).parent), folder=str(folder), whole=str(whole))
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) >= 5  # later ones had nothing left to do
    assert same(frames(folder), frames(whole))


def test_removed_frames_are_made_again_with_the_current_settings(animator: Make, tmp_path: Path) -> None:
    job = run(animator(tmp_path, frames=6))
    expected = frames(tmp_path)
    assert job.project.rewind(3) == 3
    assert len(frames(tmp_path)) == 3
    run(animator(tmp_path, frames=6))
    assert same(frames(tmp_path), expected)
    job.project.rewind(3)
    run(animator(tmp_path, frames=6, prompt="the blue sea", frame_learning_rate=1.0))
    other = frames(tmp_path)
    assert same(other[:3], expected[:3]) and not np.array_equal(other[-1], expected[-1])


def test_rewind_and_steer_continue_with_other_frames(animator: Make, tmp_path: Path) -> None:
    job = run(animator(tmp_path, frames=8), until=6)
    before = frames(tmp_path)
    assert job.rewind(3) == job.done == 3 and len(frames(tmp_path)) == 3
    job.steer({"prompt": "the blue sea", "frame_learning_rate": 1.0})
    run(job)
    after = frames(tmp_path)
    assert len(after) == 8 and same(after[:3], before[:3]) and not np.array_equal(after[4], before[4])
    again = Project.open(tmp_path).record["settings"]
    assert (again["prompt"], again["frame_learning_rate"]) == ("the blue sea", 1.0)
    with pytest.raises(UserError, match="remove at most 7"):
        job.rewind(8)


def test_old_states_are_thinned_out(animator: Make, tmp_path: Path) -> None:
    job = animator(tmp_path, frames=2)
    for position in range(1, 200):
        job.project.save_state(position, {"made": position})
    kept = job.project.positions()
    assert kept[-60:] == list(range(140, 200)) and kept[:-60] == [30, 60, 90, 120]


def test_a_frame_without_guidance_is_the_last_one_warped(animator: Make, tmp_path: Path) -> None:
    run(
        animator(
            tmp_path, iterations_per_frame="0", hold=0.999, clarity=0, motion="none", translation_x="2", border="wrap"
        )
    )
    first, second, *_ = frames(tmp_path)
    assert np.abs(np.roll(first, 2, axis=1).astype(int) - second).max() <= 2


def test_cadence_paints_every_nth_frame_and_interpolates_the_others(animator: Make, tmp_path: Path) -> None:
    job = run(animator(tmp_path, frames=8, cadence=3, clarity=0, motion="none", translation_x="1", border="wrap"))
    assert [(f.number, f.skipped) for f in job.plan.frames] == [(0, 0), (3, 2), (6, 2), (7, 0)]
    pictures = [picture.astype(int) for picture in frames(tmp_path)]
    a, b = np.roll(pictures[0], 1, axis=1), np.roll(pictures[3], -2, axis=1)
    assert np.abs(pictures[1] - (a * 2 / 3 + b / 3)).max() <= 2


def test_prompts_init_images_and_iterations_change_at_their_frames(animator: Make, tmp_path: Path) -> None:
    save_png(tmp_path / "blue.png", Image.new("RGB", (60, 60), (0, 0, 255)), {})
    job = run(
        animator(
            tmp_path / "a", prompt="a ^ b", frames=6, crossfade=0, iterations_per_frame="0:(1), 4:(3)",
            init_images_at=json.dumps({"4": str(tmp_path / "blue.png")}), hold=0.9,
        )
    )  # fmt: skip
    records = [read_record(tmp_path / "a" / "frames" / f"frame-{i:05d}.png") for i in range(6)]
    assert [record["shown"] for record in records] == ["a", "a", "a", "b", "b", "b"]
    assert [record["frame"] for record in records] == list(range(6))
    assert records[2]["settings"]["prompt"] == "a ^ b" and records[2]["motion"]["zoom"] == 1.02
    assert [frame.iterations for frame in job.plan.frames] == [0, 2, 2, 2, 3, 3]
    assert frames(tmp_path / "a")[4].mean((0, 1))[2] > 200


def test_the_last_frame_of_a_loop_is_close_to_the_first(animator: Make, tmp_path: Path) -> None:
    run(animator(tmp_path, frames=24, loop=True, motion="drift", border="wrap", frame_learning_rate=0.3))
    pictures = [picture.astype(float) for picture in frames(tmp_path)]
    steps = [np.abs(a - b).mean() for a, b in pairwise(pictures)]
    assert np.abs(pictures[-1] - pictures[0]).mean() <= float(np.median(steps))


def test_the_last_frame_of_a_loop_is_blended_with_the_first(
    animator: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seams = []
    for name, share in (("leaning", 0.15), ("plain", 0.0)):
        monkeypatch.setattr("vqtools.animation.frame_writer._LOOP_SEAM_BLEND", share)
        run(animator(tmp_path / name, frames=6, loop=True))
        first, *_, last = (picture.astype(float) for picture in frames(tmp_path / name))
        seams.append(np.abs(last - first).mean())
    assert seams[0] == pytest.approx(0.85 * seams[1], rel=0.05)


def test_a_seamless_animation_stays_seamless(animator: Make, tmp_path: Path) -> None:
    """What leaves on one side enters on the other, and the seam is no stronger an edge than other columns."""
    run(animator(tmp_path, seamless=True, motion="drift", frames=6, frame_learning_rate=1.0))
    for picture in frames(tmp_path):
        columns = np.abs(np.diff(picture.astype(float), axis=1, append=picture[:, :1].astype(float))).mean((0, 2))
        assert columns[-1] <= 1.5 * columns[:-1].max()
    for folder, seamless, hold in (("tile", True, 0.999), ("plain", False, 0.999)):
        run(animator(tmp_path / folder, seamless=seamless, motion="none", translation_x="2", hold=hold, clarity=0,
                     iterations_per_frame="0"))  # fmt: skip
        first, second, *_ = frames(tmp_path / folder)
        comes_in = np.abs(np.roll(first, 2, axis=1).astype(int) - second)[:, :2].max()
        assert bool(comes_in <= 2) is seamless


def test_colour_coherence_keeps_the_colours_of_the_first_frame(animator: Make, tmp_path: Path) -> None:
    shifts = {}
    for how in ("none", "LAB"):
        run(animator(tmp_path / how, color_coherence=how, frames=8, frame_learning_rate=0.5, hold=0.8))
        pictures = frames(tmp_path / how)
        shifts[how] = np.abs(pictures[0].mean((0, 1)) - pictures[-1].mean((0, 1))).max()
    assert shifts["LAB"] < shifts["none"]


def test_sharpening_does_not_accumulate_over_frames(animator: Make, tmp_path: Path) -> None:
    still = {"motion": "none", "frames": 20, "hold": 0.95, "iterations_per_frame": "0", "antiblur": "9"}
    run(animator(tmp_path / "a", clarity=0, **still))
    pictures = [picture.astype(float) for picture in frames(tmp_path / "a")]
    assert pictures[-1].std() < 1.2 * pictures[1].std()
    run(animator(tmp_path / "b", clarity=1, frames=2))
    run(animator(tmp_path / "c", clarity=0, frames=2))
    assert frames(tmp_path / "b")[1].std() > frames(tmp_path / "c")[1].std()
    last = [run(animator(tmp_path / name, clarity=c, frames=2)).last for name, c in (("b", 1), ("c", 0))]
    assert torch.equal(*last)  # the state is not sharpened


def test_noise_moves_with_the_scene(animator: Make, tmp_path: Path) -> None:
    job = animator(tmp_path, motion="none", translation_x="3", noise_schedule="0.2")
    run(job, until=2)
    before = job.noise.clone()
    run(job, until=3)
    assert torch.equal(job.noise, torch.roll(before, 3, dims=3))


def test_adams_moments_are_warped_only_with_carry(animator: Make, tmp_path: Path) -> None:
    steps = {}
    for carry in (True, False):
        job = run(animator(tmp_path / str(carry), carry=carry))
        steps[carry] = int(job.first.painter.state_dict()["adam"]["step"])
    assert steps == {True: 3 + 4 * 2, False: 2}


def test_changed_settings_count_from_the_next_frame(animator: Make, tmp_path: Path) -> None:
    job = run(animator(tmp_path, frames=6), until=3)
    job.settings = job.settings.model_copy(update={"prompt": "the sea", "iterations_per_frame": "4", "frames": 99})
    run(job)
    prompts = [read_record(tmp_path / "frames" / f"frame-{i:05d}.png")["shown"] for i in range(6)]
    assert prompts == ["a red apple"] * 3 + ["the sea"] * 3
    assert len(frames(tmp_path)) == 6


def test_memory_does_not_grow_with_the_frames(animator: Make, tmp_path: Path) -> None:
    def held(job: Animator) -> int:
        return sum(value.numel() for value in vars(job).values() if isinstance(value, torch.Tensor))

    job = run(animator(tmp_path, frames=12, noise_schedule="0.1", iterations_per_frame="1"), until=2)
    early = held(job)
    assert held(run(job)) == early


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"zoom": "0:(1), 3:(0)"}, "frame 3: zoom 0: must be more than 0"),
        ({"translation_z": "300"}, "through the picture"),
        ({"init_images_at": '{"2": "none.png"}'}, "'none.png': the picture is not there"),
        ({"zoom": "1+0/(t-2)"}, "on frame 2"),
        ({"audio": "none.wav"}, "is not there"),
    ],
)
def test_invalid_frames_are_reported_before_the_start(
    animator: Make, tmp_path: Path, fields: Any, message: str
) -> None:
    with pytest.raises(UserError) as caught:
        animator(tmp_path, **fields)
    assert message in str(caught.value)


def test_the_warper_follows_the_settings(animator: Make, tmp_path: Path) -> None:
    job = animator(tmp_path, motion="spin", frames=9)
    step = camera.homography(camera.Motion(angle=2, zoom=1.005), 24, 16)
    assert torch.allclose(job.warper.combined_homography([1, 2, 3]), step @ step @ step)
