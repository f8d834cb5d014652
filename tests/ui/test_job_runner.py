"""The runner: buttons, status line and saving around a job in a thread; the same awaited in a cell."""

from __future__ import annotations

import asyncio
import io
import time
from typing import Any

import pytest
from PIL import Image

from tests.ui.conftest import wait_until
from vqtools.core.errors import UserError
from vqtools.ui.job_runner import Runner


def click(runner: Runner, text: str) -> None:
    (button,) = [child for child in runner.buttons.children if getattr(child, "description", "") == text]
    assert not button.disabled, f"{text} is off while {runner.state}"
    button.click()


def usable(runner: Runner) -> set[str]:
    return {child.description for child in runner.buttons.children[:-1] if not child.disabled}


def test_a_job_runs_to_its_end_in_the_background_and_is_shown(counting_job: Any) -> None:
    runner = Runner(lambda: counting_job, verb="Paint", finish=lambda job: f"saved {job.position}")
    assert usable(runner) == {"Paint"}
    click(runner, "Paint")
    assert runner.wait(20)
    assert runner.job is not None and runner.job.position == 20
    assert "Done: 20" in runner.status.value and "saved 20" in runner.status.value
    assert Image.open(io.BytesIO(runner.picture.value)).size == (256, 256)
    assert runner.picture.layout.visibility == "visible"
    assert usable(runner) == {"Paint"}


def test_pause_step_resume_and_stop(counting_job: Any) -> None:
    job = counting_job(100, held=True)
    runner = Runner(lambda: lambda: job, verb="Paint")
    click(runner, "Paint")
    job.gate.release()
    wait_until(lambda: job.position == 1)
    assert usable(runner) == {"Pause", "Stop"}
    click(runner, "Pause")
    job.gate.release(50)
    wait_until(lambda: "Paused" in runner.status.value)
    held = job.position
    assert held <= 2
    assert usable(runner) == {"Resume", "Step", "Stop"}
    click(runner, "Step")
    wait_until(lambda: f"Paused at {held + 1} of 100" in runner.status.value)
    time.sleep(0.05)
    assert job.position == held + 1
    click(runner, "Resume")
    wait_until(lambda: job.position > held + 10)
    click(runner, "Stop")
    job.gate.release()
    assert runner.wait(20)
    assert f"Stopped at {job.position} of 100" in runner.status.value


def test_stop_works_while_paused_and_before_the_first_step(counting_job: Any) -> None:
    runner = Runner(lambda: lambda: counting_job(10**6))
    runner.start()
    runner.pause()
    runner.stop()
    assert runner.wait(20)
    assert "Stopped" in runner.status.value


def test_an_error_is_shown_escaped_and_the_result_so_far_is_saved(counting_job: Any) -> None:
    saved: list[int] = []
    runner = Runner(lambda: lambda: counting_job(breaks_at=3), finish=lambda job: saved.append(job.position) or "saved")
    runner.start()
    assert runner.wait(20)
    assert "the &lt;b&gt;job&lt;/b&gt; broke" in runner.status.value and "<b>" not in runner.status.value
    assert "RuntimeError" in runner.status.value and "Traceback" in runner.status.value
    assert saved == [3]
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


def test_an_error_while_saving_does_not_hide_how_the_run_ended(counting_job: Any) -> None:
    def finish(job: Any) -> str:
        raise OSError("disk full")

    runner = Runner(lambda: counting_job, finish=finish)
    runner.start()
    assert runner.wait(20)
    assert "Done: 20" in runner.status.value and "not saved: disk full" in runner.status.value


def test_starting_a_run_stops_the_runs_of_other_runners(counting_job: Any) -> None:
    first, second = (Runner(lambda: lambda: counting_job(10**6)) for _ in range(2))
    first.start()
    wait_until(lambda: first.job is not None and first.job.position > 0)
    with pytest.raises(UserError, match="under way"):
        first.start()
    second.start()
    assert first.wait(20) and "Stopped" in first.status.value
    wait_until(lambda: second.job is not None and second.job.position > 0)
    second.stop()
    assert second.wait(20)


def test_an_awaited_run_returns_the_job_and_other_tasks_run_meanwhile(counting_job: Any) -> None:
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


def test_the_error_of_an_awaited_run_is_raised_in_the_cell(counting_job: Any) -> None:
    runner = Runner(lambda: lambda: counting_job(breaks_at=1))
    with pytest.raises(RuntimeError, match="broke"):
        asyncio.run(runner.run())


def test_awaiting_a_new_run_replaces_the_run_under_way(counting_job: Any) -> None:
    made: list[Any] = []

    def make() -> Any:
        made.append(counting_job(10**6 if not made else 5))
        return made[-1]

    runner = Runner(lambda: make)
    runner.start()
    wait_until(lambda: bool(made) and made[0].position > 0)
    assert asyncio.run(runner.run()) is made[1]
    assert made[1].position == 5
