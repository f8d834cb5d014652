"""Drive a job from a notebook: buttons, the picture as it forms, a status line, and saving at the end.

Knows jobs, their worker thread and the widgets that show it; nothing about prompts, forms or files.

In the background, the worker thread is all there is. In the foreground (`await runner.run()`) the cell stays with the
job and dispatches widget messages while it waits: Colab, Run All, scripts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from vqtools.core.errors import UserError
from vqtools.core.job import Job, StepReport
from vqtools.ui.job_controls import PREVIEW_QUALITY, JobControls
from vqtools.ui.job_status import ProgressMeter, format_duration
from vqtools.ui.job_worker import JobWorker, RunState
from vqtools.ui.kernel_events import process_widget_events

if TYPE_CHECKING:
    from PIL.Image import Image

MESSAGE_SECONDS = 4.0  # that an error of an action stands in the status line; other messages half as long
_SAVED_QUALITY = 95  # of the JPEG that shows a finished picture


class RunHooks:
    """What a panel adds to its runner. Override what is needed; all but ``plan`` do nothing by default.

    Every method but ``plan`` and ``state_changed`` is called in the worker's thread.
    """

    def plan(self) -> Callable[[], Job]:
        """Check quickly what is to be made, and return the function that makes the job in the worker's thread."""
        raise NotImplementedError

    def finish(self, job: Any) -> str | None:
        """Save the result of a job that ended, was stopped or failed after its first step; return what to say."""

    def step_done(self, job: Any, report: StepReport) -> None:
        """A step was made; ``report.image`` is set whenever a new picture is shown."""

    def before_resume(self, job: Any) -> None:
        """A job at rest is about to be continued."""

    def step_context(self, job: Any) -> AbstractContextManager[None] | None:
        """A context manager that is held from the first step to the end of the run, or None."""

    def after_run(self, job: Any) -> None:
        """No more steps follow; also called for a job that made none."""

    def total_steps(self, job: Any) -> int:
        """Steps in all, should a job at rest be continued."""
        return int(job.total)

    def preview(self, job: Any) -> Image | None:
        """The picture to show while the job makes no steps."""
        image: Image | None = job.preview()
        return image

    def state_changed(self) -> None:
        """Buttons may have become usable, or no longer are."""


class _CallableHooks(RunHooks):
    """Hooks from three functions."""

    def __init__(
        self,
        plan: Callable[[], Callable[[], Job]],
        finish: Callable[[Job], str] | None,
        report: Callable[[Job, StepReport], None] | None,
    ) -> None:
        self._plan, self._finish, self._report = plan, finish, report

    def plan(self) -> Callable[[], Job]:
        return self._plan()

    def finish(self, job: Any) -> str | None:
        return self._finish(job) if self._finish is not None else None

    def step_done(self, job: Any, report: StepReport) -> None:
        if self._report is not None:
            self._report(job, report)


class Runner:
    """One job after another, with the widgets that show and control it.

    hooks: a :class:`RunHooks`, or its ``plan`` alone; then ``finish`` and ``report`` (``step_done``) can be given too.
    verb: label of the first button. resumable: whether a job that was stopped can be continued.
    """

    def __init__(
        self,
        hooks: RunHooks | Callable[[], Callable[[], Job]],
        *,
        finish: Callable[[Job], str] | None = None,
        report: Callable[[Job, StepReport], None] | None = None,
        verb: str = "Start",
        resumable: bool = False,
    ) -> None:
        self.hooks = hooks if isinstance(hooks, RunHooks) else _CallableHooks(hooks, finish, report)
        self.verb = verb
        self.panel_state: dict[str, Any] = {}  # what a panel that adopts this runner takes over
        self.controls = JobControls(
            verb, {"start": self.start, "pause": self.pause, "step": self.step, "stop": self.stop}
        )
        self._worker = JobWorker(_WorkerEvents(self), resumable=resumable)

    def attach(self, hooks: RunHooks) -> None:
        """Use other hooks from now on, as those of a new panel that is complete."""
        self.hooks = hooks
        self.refresh()

    @property
    def job(self) -> Job | None:
        """The job of the present run, or of the last."""
        return self._worker.job

    @property
    def state(self) -> RunState:
        """What the runner does now; readable from any thread without a lock."""
        return self._worker.state

    @property
    def error(self) -> BaseException | None:
        """What ended the last run, if it failed."""
        return self._worker.error

    @property
    def can_continue(self) -> bool:
        """Whether there is a job that has steps left."""
        return self.job is not None and self.job.position < self.hooks.total_steps(self.job)

    @property
    def picture(self) -> Any:
        """The image widget."""
        return self.controls.picture

    @property
    def view(self) -> Any:
        """The box around the picture."""
        return self.controls.view

    @property
    def status(self) -> Any:
        """The status line."""
        return self.controls.status

    @property
    def buttons(self) -> Any:
        """The row of buttons, with the status line at its end."""
        return self.controls.buttons

    # What the buttons do.

    def start(self, *, paused: bool = False) -> None:
        """Begin a run in the background. Raises UserError if the plan is impossible or a run is under way.

        paused: make the job, but no step before :meth:`pause` or :meth:`step`.
        """
        self._worker.start(self.hooks.plan, paused=paused)

    def pause(self) -> None:
        """Wait after the present step; when paused or, if resumable, at rest: continue."""
        self._worker.pause()

    def step(self) -> None:
        """Make one step of a paused job, or of one at rest if resumable."""
        self._worker.step()

    def stop(self) -> None:
        """End the run after the present step; the result so far is saved."""
        self._worker.stop()

    def queue_action(self, act: Callable[[Any], str | None], *, resume: bool = False) -> None:
        """Queue ``act(job)`` to run between two steps, at once if none is being made.

        What it returns is shown in the status line. resume: continue a job that is paused or at rest.
        Raises UserError if there is no job.
        """
        with self._worker.lock:
            if self.state == "idle" and self.job is None:
                raise UserError(f"there is no run to change yet; press {self.verb} first")
            self._worker.queue_action(act, resume=resume)

    def switch_to(self, make: Callable[[], Job], *, at_rest: bool = False) -> None:
        """Run the job that ``make()`` makes in the worker; a run under way is stopped and saved first.

        If ``make`` fails, the job before stays. at_rest: show the job and make no step.
        """
        self._worker.switch_to(make, at_rest=at_rest)

    def discard_job(self) -> None:
        """Forget the job, as if none had been made."""
        self._worker.discard_job()

    def wait(self, seconds: float | None = None) -> bool:
        """Block until no run is under way; False if that took longer than ``seconds``."""
        return self._worker.wait(seconds)

    async def run(self) -> Job | None:
        """Do what the first button does and stay in this cell until the run has ended.

        Returns the job, or raises its error. Widgets stay responsive meanwhile. Interrupting the cell acts like Stop:
        the run ends cleanly and the job is returned.
        """
        async with process_widget_events() as pump:
            self.stop()
            while not self._worker.is_done:
                await pump()
            self.start()
            while not self._worker.is_done:
                try:
                    await pump()
                except (asyncio.CancelledError, KeyboardInterrupt):
                    if self.state == "stopping":
                        raise
                    self.stop()
        if self.error is not None:
            raise self.error
        return self.job

    # What is shown.

    def set_status(self, text: str, *, error: bool = False, details: str = "") -> None:
        """See :meth:`JobControls.set_status`."""
        self.controls.set_status(text, error=error, details=details)

    def show_picture(self, image: Image, quality: int = PREVIEW_QUALITY) -> None:
        """See :meth:`JobControls.show_picture`."""
        self.controls.show_picture(image, quality)

    def show_error(self, error: BaseException, after: str = "") -> None:
        """See :meth:`JobControls.show_error`."""
        self.controls.show_error(error, after)

    def guard(self, act: Callable[[], None]) -> Callable[[Any], None]:
        """See :meth:`JobControls.guard`."""
        return self.controls.guard(act)

    def recreate_widgets(self) -> None:
        """Replace widgets that were closed by new ones with the same content."""
        if self.controls.recreate():
            self.refresh()

    def refresh(self) -> None:
        """Enable the buttons that can be used now; the hooks do the same for theirs."""
        self.controls.update(self.state, self._worker.resumable and self.can_continue)
        self.hooks.state_changed()


class _WorkerEvents:
    """Shows what the worker reports, and asks the hooks. See :class:`WorkerListener` for the methods."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._meter = ProgressMeter()

    def state_changed(self) -> None:
        self._runner.refresh()

    def stop_requested(self, state: RunState) -> None:
        self._runner.set_status("Pausing …" if state == "paused" else "Stopping …")

    def run_starting(self, new_job: bool) -> None:
        self._meter.clear()
        if new_job:
            self._runner.set_status("Getting ready …")

    def before_resume(self, job: Job) -> None:
        self._runner.hooks.before_resume(job)

    def step_context(self, job: Job) -> AbstractContextManager[None] | None:
        return self._runner.hooks.step_context(job)

    def step_done(self, job: Job, report: StepReport) -> None:
        self._meter.step_done()
        if report.image is not None:
            self._runner.show_picture(report.image)
        self._runner.hooks.step_done(job, report)
        if self._runner.state == "working" and self._meter.update_due():
            self._runner.set_status(self._meter.text(report))

    def show_job(self, job: Job, quality: int = PREVIEW_QUALITY) -> None:
        if (image := self._runner.hooks.preview(job)) is not None:
            self._runner.show_picture(image, quality)

    def job_at_rest(self, job: Job) -> None:
        self.show_job(job)
        self._runner.set_status(f"{job.position} of {job.total}")
        self._runner.refresh()

    def job_paused(self, job: Job, message: str) -> None:
        self._meter.clear()
        self._runner.set_status(f"Paused at {job.position} of {job.total}{message and f' · {message}'}")

    def actions_done(self, job: Job, message: str) -> None:
        if self._runner.state != "idle":
            self._meter.keep_message(MESSAGE_SECONDS / 2)
        self._runner.set_status(f"{job.position} of {job.total} · {message}")

    def action_failed(self, error: Exception) -> None:
        self._meter.keep_message(MESSAGE_SECONDS)
        self._runner.show_error(error)

    def run_ended(self, job: Job, steps: int, seconds: float) -> None:
        if job.position < job.total:
            outcome = f"Stopped at {job.position} of {job.total}"
        else:
            outcome = f"Done: {steps} in {format_duration(seconds)}"
        self._runner.set_status(outcome + (self._save(job) if job.position else ""))

    def run_failed(self, error: BaseException, job: Job | None) -> None:
        self._runner.show_error(error, after=self._save(job) if job is not None else "")

    def after_run(self, job: Job) -> None:
        self._runner.hooks.after_run(job)

    def _save(self, job: Job) -> str:
        """Show the last picture well and let the hooks save it; an error here must not hide how the run ended."""
        try:
            self.show_job(job, _SAVED_QUALITY)
            message = self._runner.hooks.finish(job)
        except Exception as error:
            message = f"not saved: {error}"
        return f" · {message}" if message else ""
