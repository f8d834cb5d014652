"""The plan of frames: cadence, the lead-in of a loop, and the count of guidance steps."""

from typing import Any

import pytest

from tests.animation.conftest import settings_of
from vqtools.animation.frame_plan import FramePlan
from vqtools.animation.timeline import Timeline


def plan_of(**fields: Any) -> FramePlan:
    settings = settings_of(**fields)
    return FramePlan(settings, Timeline(settings, 5))


@pytest.mark.parametrize("cadence", [1, 2, 3, 7, 100])
def test_every_frame_is_painted_or_skipped_once(cadence: int) -> None:
    plan = plan_of(frames=8, cadence=cadence)
    numbers = [number for frame in plan.frames for number in range(frame.previous + 1, frame.number + 1)]
    assert numbers == list(range(8))


def test_lead_in_frames_continue_the_curves_of_the_end() -> None:
    plan = plan_of(frames=12, loop=True)
    assert plan.loop_overlap == 4
    assert [plan.curve_frame(number) for number in range(16)] == [8, 9, 10, 11, *range(12)]
    assert plan.curve_frames(2, 5) == [11, 0, 1]


def test_work_counts_each_frame_as_at_least_one_step() -> None:
    plan = plan_of(frames=5, iterations_per_frame="0:(3), 3:(0)", interpolation="step")
    assert [frame.iterations for frame in plan.frames] == [0, 3, 3, 0, 0]
    assert plan.work(0) == 0 and plan.work(2) == 4 and plan.work() == 9
    assert [frame.number for frame in plan.remaining(3)] == [3, 4]
