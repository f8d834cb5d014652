"""Status texts of a running job: progress, rate, time left, and how long another message stands in their place.

Knows step reports and durations; nothing about widgets or threads.
"""

from __future__ import annotations

import time
from collections import deque

from vqtools.core.job import StepReport

PROGRESS_SECONDS = 0.2  # between two updates of the status line
_RATE_STEPS = 30  # steps over which the rate is averaged


class ProgressMeter:
    """The rate of the last steps, and when the status line is due for an update."""

    def __init__(self) -> None:
        self._step_times: deque[float] = deque(maxlen=_RATE_STEPS)
        self._shown_at = 0.0
        self._message_until = 0.0

    def clear(self) -> None:
        """Forget the step times, as after a pause: the rate must not count the time without steps."""
        self._step_times.clear()
        self._shown_at = 0.0

    def step_done(self) -> None:
        """Record that a step has just been made."""
        self._step_times.append(time.monotonic())

    def keep_message(self, seconds: float) -> None:
        """Let the present message stand for this long before progress replaces it."""
        self._message_until = time.monotonic() + seconds

    def update_due(self) -> bool:
        """Whether to show the progress now; if so, the next update is due PROGRESS_SECONDS later."""
        now = time.monotonic()
        if now - self._shown_at <= PROGRESS_SECONDS or now <= self._message_until:
            return False
        self._shown_at = now
        return True

    def text(self, report: StepReport) -> str:
        """`142 of 300 · 3.1 it/s · 0:51 left · 2.4 GB · loss 0.83`."""
        from vqtools.core.device import memory_in_use  # loads torch; the job has done so already

        parts = [f"{report.position} of {report.total}"]
        if len(self._step_times) > 1:
            rate = (len(self._step_times) - 1) / max(self._step_times[-1] - self._step_times[0], 1e-6)
            parts += [f"{rate:.1f} it/s", f"{format_duration((report.total - report.position) / rate)} left"]
        parts.append(f"{memory_in_use() / 2**30:.1f} GB")
        if "loss" in report.scalars:
            parts.append(f"loss {report.scalars['loss']:.3f}")
        return " · ".join(parts)


def format_duration(seconds: float) -> str:
    """Seconds as `0:51`, or `1:02:03` from an hour on."""
    minutes, seconds_left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds_left:02}" if hours else f"{minutes}:{seconds_left:02}"
