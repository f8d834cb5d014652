"""The worker's states and actions, without any widget."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ui.conftest import wait_until
from vqtools.core.errors import UserError
from vqtools.ui.job_worker import JobWorker


class Recorder:
    """A listener that records what the worker reports."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *values: self.events.append((name, *values))

    def named(self, name: str) -> list[tuple[Any, ...]]:
        return [event[1:] for event in self.events if event[0] == name]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def test_a_run_reports_its_start_every_step_and_its_end(recorder: Recorder, counting_job: Any) -> None:
    worker = JobWorker(recorder)
    worker.start(lambda: lambda: counting_job(3))
    assert worker.wait(20) and worker.state == "idle"
    assert recorder.named("run_starting") == [(True,)]
    assert [report.position for _, report in recorder.named("step_done")] == [1, 2, 3]
    ((job, steps, seconds),) = recorder.named("run_ended")
    assert job is worker.job and steps == 3 and seconds >= 0
    assert recorder.named("after_run") == [(job,)]


def test_a_second_start_is_refused_while_a_run_is_under_way(recorder: Recorder, counting_job: Any) -> None:
    job = counting_job(2, held=True)
    worker = JobWorker(recorder)
    worker.start(lambda: lambda: job)
    with pytest.raises(UserError, match="under way"):
        worker.start(lambda: lambda: job)
    job.gate.release(2)
    assert worker.wait(20)


def test_an_action_runs_between_two_steps_and_its_message_is_reported(recorder: Recorder, counting_job: Any) -> None:
    job = counting_job(3, held=True)
    worker = JobWorker(recorder)
    worker.start(lambda: lambda: job)
    job.gate.release()
    wait_until(lambda: job.position == 1)
    worker.queue_action(lambda job: f"at {job.position}")
    job.gate.release(2)
    assert worker.wait(20)
    ((_, message),) = recorder.named("actions_done")
    assert message == "at 2"  # the step under way was not interrupted


def test_a_failing_action_is_reported_and_the_run_goes_on(recorder: Recorder, counting_job: Any) -> None:
    def fail(job: Any) -> str:
        raise ValueError("no")

    worker = JobWorker(recorder, resumable=True)
    worker.start(lambda: lambda: counting_job(3), paused=True)
    wait_until(lambda: bool(recorder.named("job_paused")))
    worker.queue_action(fail)
    wait_until(lambda: bool(recorder.named("action_failed")))
    worker.pause()
    assert worker.wait(20) and worker.job is not None and worker.job.position == 3


def test_a_stopped_job_is_continued_only_if_the_worker_is_resumable(recorder: Recorder, counting_job: Any) -> None:
    for resumable in (False, True):
        worker = JobWorker(recorder, resumable=resumable)
        worker.start(lambda: lambda: counting_job(5), paused=True)
        worker.step()
        wait_until(lambda worker=worker: worker.job is not None and worker.job.position == 1)  # type: ignore[misc]
        worker.stop()
        assert worker.wait(20)
        worker.pause()
        assert worker.wait(20)
        assert worker.job is not None and worker.job.position == (5 if resumable else 1)


def test_a_job_to_switch_to_that_cannot_be_made_leaves_the_one_before(recorder: Recorder, counting_job: Any) -> None:
    def fail() -> Any:
        raise UserError("impossible")

    worker = JobWorker(recorder)
    worker.start(lambda: lambda: counting_job(2))
    assert worker.wait(20)
    job = worker.job
    worker.switch_to(fail)
    assert worker.wait(20)
    assert worker.job is job and str(worker.error) == "impossible"
    assert recorder.named("run_failed") == [(worker.error, None)]


def test_a_job_that_is_put_at_rest_makes_no_step(recorder: Recorder, counting_job: Any) -> None:
    worker = JobWorker(recorder)
    job = counting_job(4)
    worker.switch_to(lambda: job, at_rest=True)
    assert worker.job is job and job.position == 0 and recorder.named("job_at_rest") == [(job,)]
