"""Drive anything with step(): stop, pause, show, save, resume.

Knows steps, scalars and files of state; nothing about what a job makes.
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

_PREVIEW_TIME_FACTOR = 5  # a preview may cost a fifth of the time, not more


class Job(Protocol):
    """Long work in steps. The state is complete after each step, random generators included."""

    @property
    def position(self) -> int:
        """Steps done."""
        ...

    @property
    def total(self) -> int:
        """Steps in all."""
        ...

    def step(self) -> dict[str, float]:
        """Do one unit of work; report scalars, "loss" among them where there is one."""
        ...

    def preview(self) -> Image | None:
        """The picture as it stands, or None where there is none."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that a job of the same settings needs to go on from here."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        ...


@dataclass(frozen=True)
class StepReport:
    """One step done. `image` is there only when it was time to show one; `seconds` since the loop began."""

    position: int
    total: int
    scalars: dict[str, float]
    image: Image | None
    seconds: float


class Steppable(Protocol):
    """Anything that can be run to its end step by step."""

    @property
    def position(self) -> int: ...
    @property
    def total(self) -> int: ...
    def step(self) -> Any: ...


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
    """The only loop: step until the end or until `stop()`, one report a step.

    Saves the state now and then, and at the end of the loop however it ends, unless a step was cut short.
    """
    started = saved = time.monotonic()
    due = started  # the first step is shown at once
    whole = True
    try:
        while job.position < job.total and not (stop is not None and stop()):
            whole = False
            scalars = job.step()
            whole = True
            now = time.monotonic()
            image = None
            if previews and (now >= due or job.position >= job.total):
                image = job.preview()
                shown = time.monotonic()
                due = shown + max(show_seconds, (_PREVIEW_TIME_FACTOR - 1) * (shown - now))
            if save is not None and now - saved >= save_every_seconds:
                save_state(save, job.state_dict())
                saved = now
            yield StepReport(job.position, job.total, scalars, image, time.monotonic() - started)
    finally:
        if save is not None and whole:
            save_state(save, job.state_dict())


def run_job(
    job: Job,
    *,
    show: Callable[[Image, StepReport], None] | None = None,
    show_seconds: float = 0.2,
    stop: Callable[[], bool] | None = None,
    agree: Callable[[bool], bool] = bool,
    progress: bool = True,
    label: str = "",
    save: str | Path | None = None,
    save_every_seconds: float = 60.0,
) -> bool:
    """Run a job with a progress bar. True when the end was reached, False when stopped.

    The first Ctrl-C lets the step under way finish; the second stops at once, with the state last saved.
    agree: is asked before every step whether to stop, with this process's wish: processes that work together must stop
        at the same step.
    """
    from tqdm.auto import tqdm

    with _catch_interrupts() as interrupted:
        loop = iterate_steps(
            job,
            previews=show is not None,
            show_seconds=show_seconds,
            stop=lambda: agree(interrupted.is_set() or (stop is not None and stop())),
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
    """The loss where there is one (its parts, named by prompts, would not fit), else everything."""
    shown = {"loss": scalars["loss"]} if "loss" in scalars else scalars
    return ", ".join(f"{name}={value:.4g}" for name, value in shown.items())


@contextlib.contextmanager
def _catch_interrupts() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event, so that no step is cut in half; only the main thread can."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def first(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = signal.signal(signal.SIGINT, first)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
