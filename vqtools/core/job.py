"""Jobs: long work in steps, and the loop that runs it with progress, previews, stopping and saving.

Knows steps, scalars and state files; nothing about what a job makes.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from vqtools.core.state_file import save_state

if TYPE_CHECKING:
    from PIL.Image import Image

_PREVIEW_TIME_FACTOR = 5  # previews take at most a fifth of the time


class Steppable(Protocol):
    """Anything that can be run to its end step by step."""

    @property
    def position(self) -> int:
        """Number of steps done."""
        ...

    @property
    def total(self) -> int:
        """Number of steps of the whole job."""
        ...

    def step(self) -> Any:
        """Do one unit of work."""
        ...


class Job(Steppable, Protocol):
    """Long work in steps. The state is complete after each step, random generators included."""

    def step(self) -> dict[str, float]:
        """Do one unit of work and return its scalars; "loss" is among them if there is one."""
        ...

    def preview(self) -> Image | None:
        """Return the current picture, or None if there is none."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a job of the same settings needs to continue from here."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of :meth:`state_dict`."""
        ...


@dataclass(frozen=True)
class StepReport:
    """The report on one step. ``image`` is None unless a preview was due; ``seconds`` count from the loop's start."""

    position: int
    total: int
    scalars: dict[str, float]
    image: Image | None
    seconds: float


SteppableT = TypeVar("SteppableT", bound=Steppable)


def finish(job: SteppableT) -> SteppableT:
    """Run a job to its end, without progress display or saving, and return it."""
    while job.position < job.total:
        job.step()
    return job


def iterate_steps(
    job: Job,
    *,
    previews: bool = True,
    show_seconds: float = 0.2,
    stop: Callable[[], bool] | None = None,
    save: str | Path | None = None,
    save_every_seconds: float = 60.0,
) -> Iterator[StepReport]:
    """Step a job until its end or until ``stop()`` returns True, and yield a report after each step.

    This is the only loop over steps that saves and shows. With ``save`` the state is written to that file every
    ``save_every_seconds``, and when the loop ends for any reason, unless a step was interrupted. Previews are at least
    ``show_seconds`` apart; the first and the last step have one.
    """
    started = saved = time.monotonic()
    preview_due = started  # the first step is shown at once
    state_is_complete = True  # False while a step runs
    try:
        while job.position < job.total and not (stop is not None and stop()):
            state_is_complete = False
            scalars = job.step()
            state_is_complete = True
            now = time.monotonic()
            image = None
            if previews and (now >= preview_due or job.position >= job.total):
                image = job.preview()
                shown = time.monotonic()
                preview_due = shown + max(show_seconds, (_PREVIEW_TIME_FACTOR - 1) * (shown - now))
            if save is not None and now - saved >= save_every_seconds:
                save_state(save, job.state_dict())
                saved = now
            yield StepReport(job.position, job.total, scalars, image, time.monotonic() - started)
    finally:
        if save is not None and state_is_complete:
            save_state(save, job.state_dict())


def run_job(
    job: Job,
    *,
    show: Callable[[Image, StepReport], None] | None = None,
    show_seconds: float = 0.2,
    stop: Callable[[], bool] | None = None,
    any_process: Callable[[bool], bool] = bool,
    progress: bool = True,
    label: str = "",
    save: str | Path | None = None,
    save_every_seconds: float = 60.0,
) -> bool:
    """Run a job with a progress bar. Returns True at its end, False if it was stopped.

    The first Ctrl-C stops after the current step; the second stops at once, and the state stays as last saved.

    any_process: combines this process's decision to stop with those of the others before each step, so that processes
        that work together stop at the same step; see :meth:`vqtools.core.distributed.Distributed.any_process`.
    """
    from tqdm.auto import tqdm

    with _catch_interrupts() as interrupted:
        loop = iterate_steps(
            job,
            previews=show is not None,
            show_seconds=show_seconds,
            stop=lambda: any_process(interrupted.is_set() or (stop is not None and stop())),
            save=save,
            save_every_seconds=save_every_seconds,
        )
        try:
            with (
                contextlib.closing(loop),  # type: ignore[type-var]
                tqdm(total=job.total, initial=job.position, desc=label or None, disable=not progress) as bar,
            ):
                for report in loop:
                    bar.set_postfix_str(_progress_text(report.scalars), refresh=False)
                    bar.update(report.position - bar.n)
                    if show is not None and report.image is not None:
                        show(report.image, report)
        except KeyboardInterrupt:
            return False
    return job.position >= job.total


def _progress_text(scalars: dict[str, float]) -> str:
    """Return the loss if there is one (its parts, named by prompts, would not fit), else every scalar."""
    shown = {"loss": scalars["loss"]} if "loss" in scalars else scalars
    return ", ".join(f"{name}={value:.4g}" for name, value in shown.items())


@contextlib.contextmanager
def _catch_interrupts() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event, so that it interrupts no step. The second raises KeyboardInterrupt.

    Outside the main thread, where Python allows no signal handlers, the event is never set.
    """
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def handle(*_: object) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, previous)
