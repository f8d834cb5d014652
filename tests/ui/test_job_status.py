"""Status texts of a running job."""

from __future__ import annotations

import pytest

from vqtools.core.job import StepReport
from vqtools.ui import job_status
from vqtools.ui.job_status import ProgressMeter, format_duration


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(job_status, "time", clock)
    return clock


def test_durations_have_minutes_and_from_an_hour_on_hours() -> None:
    assert [format_duration(seconds) for seconds in (0, 51.4, 60, 3723)] == ["0:00", "0:51", "1:00", "1:02:03"]


def test_the_rate_and_the_time_left_come_from_the_last_steps(clock: Clock) -> None:
    meter = ProgressMeter()
    for _ in range(5):
        meter.step_done()
        clock.now += 0.5
    text = meter.text(StepReport(position=5, total=25, scalars={"loss": 0.8254}, image=None, seconds=2.5))
    assert text.startswith("5 of 25 · 2.0 it/s · 0:10 left · ") and text.endswith(" · loss 0.825")


def test_a_pause_does_not_lower_the_rate(clock: Clock) -> None:
    meter = ProgressMeter()
    meter.step_done()
    clock.now += 60
    meter.clear()
    for _ in range(2):
        meter.step_done()
        clock.now += 0.25
    assert "4.0 it/s" in meter.text(StepReport(position=3, total=9, scalars={}, image=None, seconds=61.0))


def test_a_message_is_replaced_by_progress_only_after_its_time(clock: Clock) -> None:
    meter = ProgressMeter()
    assert meter.update_due() and not meter.update_due()
    meter.keep_message(2.0)
    clock.now += 1
    assert not meter.update_due()
    clock.now += 1.1
    assert meter.update_due()
