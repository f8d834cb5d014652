from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from vqtools.core.errors import UserError
from vqtools.ui.job_runner import Runner
from vqtools.ui.job_status import format_duration


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def click(runner: Runner, text: str) -> None:
    (button,) = [child for child in runner.buttons.children if getattr(child, "description", "") == text]
    assert not button.disabled, f"{text} is off while {runner.state}"
    button.click()


def usable(runner: Runner) -> set[str]:
    return {child.description for child in runner.buttons.children[:-1] if not child.disabled}


def test_a_job_runs_to_its_end_in_the_background_and_is_shown(counting_job: Any) -> None:
    runner = Runner(lambda: counting_job, verb="Paint", finish=lambda job: f"kept {job.position}")
    assert usable(runner) == {"Paint"}
    click(runner, "Paint")
    assert runner.wait(20)
    assert runner.job is not None and runner.job.position == 20
    assert "Done: 20" in runner.status.value and "kept 20" in runner.status.value
    assert Image.open(io.BytesIO(runner.picture.value)).size == (256, 256)
    assert runner.picture.layout.visibility == "visible"
    assert usable(runner) == {"Paint"}


def test_pause_step_resume_and_stop(counting_job: Any) -> None:
    job = counting_job(100, held=True)
    runner = Runner(lambda: lambda: job, verb="Paint")
    click(runner, "Paint")
    job.gate.release()
    until(lambda: job.position == 1)
    assert usable(runner) == {"Pause", "Stop"}
    click(runner, "Pause")
    job.gate.release(50)
    until(lambda: "Paused" in runner.status.value)
    held = job.position
    assert held <= 2
    assert usable(runner) == {"Resume", "Step", "Stop"}
    click(runner, "Step")
    until(lambda: f"Paused at {held + 1} of 100" in runner.status.value)
    time.sleep(0.05)
    assert job.position == held + 1
    click(runner, "Resume")
    until(lambda: job.position > held + 10)
    click(runner, "Stop")
    job.gate.release()
    assert runner.wait(20)
    assert f"Stopped at {job.position} of 100" in runner.status.value


def test_stop_is_heard_while_paused_and_before_the_first_step(counting_job: Any) -> None:
    runner = Runner(lambda: lambda: counting_job(10**6))
    runner.start()
    runner.pause()
    runner.stop()
    assert runner.wait(20)
    assert "Stopped" in runner.status.value


def test_a_fault_is_shown_as_text_and_what_was_made_is_kept(counting_job: Any) -> None:
    kept: list[int] = []
    runner = Runner(lambda: lambda: counting_job(breaks_at=3), finish=lambda job: kept.append(job.position) or "kept")
    runner.start()
    assert runner.wait(20)
    assert "the &lt;b&gt;job&lt;/b&gt; broke" in runner.status.value and "<b>" not in runner.status.value
    assert "RuntimeError" in runner.status.value and "Traceback" in runner.status.value
    assert kept == [3]
    assert usable(runner) == {"Start"}
    runner.start()  # and it can begin again
    assert runner.wait(20)


def test_an_impossible_plan_is_one_line_and_starts_nothing() -> None:
    def plan() -> Any:
        raise UserError("size 3x3 is too small")

    runner = Runner(plan)
    click(runner, "Start")
    assert "size 3x3 is too small" in runner.status.value and "Traceback" not in runner.status.value
    assert runner.state == "idle" and runner.job is None


def test_a_picture_that_cannot_be_saved_does_not_hide_the_end(counting_job: Any) -> None:
    def finish(job: Any) -> str:
        raise OSError("disk full")

    runner = Runner(lambda: counting_job, finish=finish)
    runner.start()
    assert runner.wait(20)
    assert "Done: 20" in runner.status.value and "not saved: disk full" in runner.status.value


def test_one_job_at_a_time_in_a_kernel(counting_job: Any) -> None:
    first, second = (Runner(lambda: lambda: counting_job(10**6)) for _ in range(2))
    first.start()
    until(lambda: first.job is not None and first.job.position > 0)
    with pytest.raises(UserError, match="under way"):
        first.start()
    second.start()
    assert first.wait(20) and "Stopped" in first.status.value
    until(lambda: second.job is not None and second.job.position > 0)
    second.stop()
    assert second.wait(20)


def test_the_foreground_returns_the_job_and_lets_others_run_meanwhile(counting_job: Any) -> None:
    runner = Runner(lambda: lambda: counting_job(10**6))

    async def page() -> Any:
        cell = asyncio.create_task(runner.run())
        while runner.job is None or runner.job.position < 5:
            await asyncio.sleep(0.01)
        runner.stop()
        return await cell

    job = asyncio.run(page())
    assert job is runner.job and 5 <= job.position < 10**6
    assert "Stopped" in runner.status.value


def test_an_interrupted_cell_ends_cleanly_with_its_job(counting_job: Any) -> None:
    job = counting_job(10, held=True)
    runner = Runner(lambda: lambda: job, finish=lambda job: "kept")

    async def page() -> Any:
        cell = asyncio.create_task(runner.run())
        job.gate.release(3)
        while job.position < 3:
            await asyncio.sleep(0.01)
        cell.cancel()
        await asyncio.sleep(0.05)
        assert runner.state == "stopping"  # the step under way is not cut
        job.gate.release()
        return await cell

    assert asyncio.run(page()) is job
    assert job.position == 4 and "Stopped at 4 of 10 · kept" in runner.status.value


def test_an_error_in_the_foreground_is_raised_in_the_cell(counting_job: Any) -> None:
    runner = Runner(lambda: lambda: counting_job(breaks_at=1))
    with pytest.raises(RuntimeError, match="broke"):
        asyncio.run(runner.run())


def test_running_again_in_a_cell_takes_the_place_of_the_run_under_way(counting_job: Any) -> None:
    made: list[Any] = []

    def make() -> Any:
        made.append(counting_job(10**6 if not made else 5))
        return made[-1]

    runner = Runner(lambda: make)
    runner.start()
    until(lambda: bool(made) and made[0].position > 0)
    assert asyncio.run(runner.run()) is made[1]
    assert made[1].position == 5


def test_clock() -> None:
    assert [format_duration(seconds) for seconds in (0, 51.4, 60, 3723)] == ["0:00", "0:51", "1:00", "1:02:03"]
