"""The loop that runs every job."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from vqtools.core.job import finish, iterate_steps, run_job
from vqtools.core.state_file import load_state


class Walk:
    """A random walk, whose end shows whether a resumed run lost any state."""

    def __init__(self, total: int = 6) -> None:
        self.position, self.total = 0, total
        self.point = torch.zeros(2)
        self.generator = torch.Generator().manual_seed(1)
        self.actions: dict[int, Any] = {}  # by position
        self.previews = 0

    def step(self) -> dict[str, float]:
        if action := self.actions.get(self.position):
            action()
        self.point += torch.randn(2, generator=self.generator)
        self.position += 1
        return {"loss": float(self.point.norm())}

    def preview(self) -> Image.Image:
        self.previews += 1
        return Image.new("RGB", (2, 2))

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position, "point": self.point, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position, self.point = state["position"], state["point"]
        self.generator.set_state(state["generator"])


def test_a_run_reaches_the_end_and_reports_each_step() -> None:
    assert [report.position for report in iterate_steps(Walk())] == [1, 2, 3, 4, 5, 6]
    assert run_job(Walk(), progress=False)


def test_finish_runs_to_the_end_and_returns_the_job() -> None:
    job = Walk()
    assert finish(job) is job and job.position == job.total


def test_stop_ends_the_run_between_steps() -> None:
    job = Walk()
    assert not run_job(job, stop=lambda: job.position == 2, progress=False)
    assert job.position == 2


def test_the_first_and_the_last_step_are_shown() -> None:
    shown: list[int] = []
    job = Walk()
    run_job(job, show=lambda image, report: shown.append(report.position), show_seconds=60, progress=False)
    assert shown == [1, 6]
    assert job.previews == 2


def test_without_a_viewer_there_are_no_previews() -> None:
    job = Walk()
    run_job(job, progress=False)
    assert job.previews == 0


def test_a_run_stopped_and_resumed_equals_one_that_never_stopped(tmp_path: Path) -> None:
    whole, first, second = Walk(), Walk(), Walk()
    run_job(whole, progress=False)
    run_job(first, stop=lambda: first.position == 3, save=tmp_path / "walk.state", progress=False)
    second.load_state_dict(load_state(tmp_path / "walk.state"))
    run_job(second, progress=False)
    assert torch.equal(whole.point, second.point)


def test_the_first_interrupt_finishes_the_step(tmp_path: Path) -> None:
    job = Walk()
    job.actions[2] = lambda: os.kill(os.getpid(), signal.SIGINT)
    before = signal.getsignal(signal.SIGINT)
    assert not run_job(job, save=tmp_path / "s", progress=False)
    assert job.position == 3
    assert load_state(tmp_path / "s")["position"] == 3
    assert signal.getsignal(signal.SIGINT) is before


def test_the_second_interrupt_stops_at_once_and_saves_no_incomplete_step(tmp_path: Path) -> None:
    def twice() -> None:
        job.point += 100  # half of a step
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    job = Walk()
    job.actions[2] = twice
    assert not run_job(job, save=tmp_path / "s", save_every_seconds=0, progress=False)
    saved = load_state(tmp_path / "s")
    assert saved["position"] == 2
    assert float(saved["point"].norm()) < 50


def test_an_exception_in_a_step_reaches_the_caller_and_keeps_the_last_save(tmp_path: Path) -> None:
    job = Walk()
    job.actions[4] = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        run_job(job, save=tmp_path / "s", save_every_seconds=0, progress=False)
    assert load_state(tmp_path / "s")["position"] == 4


def test_a_job_runs_in_a_thread_too() -> None:
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(run_job(Walk(), progress=False)))
    thread.start()
    thread.join()
    assert results == [True]


def test_the_progress_bar_shows_the_loss(capsys: pytest.CaptureFixture[str]) -> None:
    run_job(Walk(), label="walking")
    shown = capsys.readouterr().err
    assert "walking" in shown and "loss=" in shown and "6/6" in shown
