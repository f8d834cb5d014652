"""Drive a job from a notebook: buttons, the picture as it forms, one line of status.

Knows jobs and widgets; nothing about prompts, forms or files.

The steps are always made in a worker thread, so a button is heard in the middle of a long one and an interrupt never
cuts one in two. In the background that is all. In the foreground (`await runner.run()`) the cell stays with the job
and lets widget messages in while it waits: Colab, Run All, scripts.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import io
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal

import ipywidgets as widgets

from vqtools.core.errors import UserError
from vqtools.core.job import Job, StepReport, iterate_steps
from vqtools.ui.kernel_events import process_widget_events

if TYPE_CHECKING:
    from PIL.Image import Image

RunState = Literal["idle", "working", "paused", "stopping"]
SHOW_SECONDS = 0.2
MESSAGE_SECONDS = 4.0  # that a sentence about something done in mid-run stands
job_lock = threading.Lock()  # two jobs in one kernel would only slow each other
_runners: weakref.WeakSet[Runner] = weakref.WeakSet()


class Runner:
    """One job after another, each made by what `plan` returns.

    `plan()` is called at the click: it checks what was asked, quickly, and returns a function that makes the job; that
    one is called in the worker and may take its time. `finish(job)` keeps what was made, by a job that ended, was
    stopped or failed after its first step, and returns the words that the status line ends with. `report(job, report)`
    is called in the worker after every step, with a picture in the report whenever a new one is shown;
    `going_on(job)` before a job that had ended goes on; `around(job)` gives what its steps are made within;
    `ended(job)` when no more are, also of one that made none; `changed()` whenever buttons may have become usable or
    not.
    """

    def __init__(
        self,
        plan: Callable[[], Callable[[], Job]],
        *,
        finish: Callable[[Job], str] | None = None,
        report: Callable[[Job, StepReport], None] | None = None,
        verb: str = "Start",
        steered: bool = False,
    ) -> None:
        self.plan, self.finish, self.report, self.verb = plan, finish, report, verb
        self.resumable = steered  # whether a job that has ended can go on
        self.before_resume: Callable[[Any], None] | None = None
        self.step_context: Callable[[Any], AbstractContextManager[None]] | None = None
        self.after_run: Callable[[Any], None] | None = None
        self.changed: Callable[[], None] | None = None
        self.preview_of: Callable[[Any], Image | None] | None = (
            None  # what to show of a job that makes no steps just now
        )
        self.end: Callable[[Any], int] | None = None  # steps in all, if a job at rest went on
        self.job: Job | None = None
        self.error: BaseException | None = None
        self._state: RunState = "idle"
        self._turn = threading.Condition(threading.RLock())  # on ipykernel 7.1 to 7.3 clicks come from another thread
        self._steps_allowed = 0  # steps that Step has asked for
        self._actions: deque[Callable[[Any], str | None]] = deque()  # what a hand wants between two steps
        self._is_new_job = True  # whether the job was made by this run, and not gone on with
        self._job_created = False  # whether this run has its job yet
        self._next_job: tuple[Callable[[], Job], bool] | None = None  # what comes when the job under way has ended
        self.kept: dict[str, Any] = {}  # what a panel that is made anew finds again
        self._message_until = 0.0
        self._done = threading.Event()
        self._done.set()
        self._seconds: deque[float] = deque(maxlen=30)
        self._build()
        _runners.add(self)

    def _build(self) -> None:
        self.picture = widgets.Image(format="jpeg", layout=widgets.Layout(visibility="hidden"))
        self.view = widgets.Box([self.picture])
        self.view.add_class("vqtools-picture")
        self.status = widgets.HTML()
        self.status.add_class("vqtools-status")
        self._buttons = {
            name: widgets.Button(description=text, disabled=name != "start", layout=widgets.Layout(width="84px"))
            for name, text in {"start": self.verb, "pause": "Pause", "step": "Step", "stop": "Stop"}.items()
        }
        self._buttons["start"].button_style = "primary"
        for name, act in {"start": self.start, "pause": self.pause, "step": self.step, "stop": self.stop}.items():
            self._buttons[name].on_click(self.guard(act))
        self.buttons = widgets.HBox([*self._buttons.values(), self.status])
        self.buttons.add_class("vqtools-row")

    def insert_after_start(self, *buttons: Any) -> None:
        """More buttons, right after the first."""
        first, *rest = self._buttons.values()
        self.buttons.children = (first, *buttons, *rest, self.status)

    def recreate_widgets(self) -> None:
        """New widgets in place of closed ones, showing what the closed ones showed."""
        if self.view.comm is not None and self.buttons.comm is not None:
            return
        image, status = self.picture.value, self.status.value
        self._build()
        self.picture.value, self.status.value = image, status
        if image:
            self.picture.layout.visibility = "visible"
        self._set_state(self._state)

    @property
    def state(self) -> RunState:
        return self._state

    @property
    def can_continue(self) -> bool:
        """Whether there is a job that has not come to its end."""
        return self.job is not None and self.job.position < (self.end(self.job) if self.end else self.job.total)

    # What the buttons do.

    def start(self, *, held: bool = False) -> None:
        """Begin in the background. UserError if the plan is impossible or a job is under way.

        held: make the job, but no step of it before `pause()` or `step()`.
        """
        with self._turn:
            if self._state != "idle":
                raise UserError("a run is under way; stop it before starting the next")
            make = self.plan()
            self.job = None
            self._launch(make, "paused" if held else "working")

    def pause(self) -> None:
        """Hold after the step that is being made; again: go on, also with a job that was stopped."""
        with self._turn:
            if self._state == "working":
                self._set_state("paused")
                self.say("Pausing …")
            elif self._state == "paused":
                self._set_state("working")
            elif self.resumable and self.job is not None:
                self._resume("working")

    def step(self) -> None:
        """One step of a paused job, or of one that was stopped."""
        with self._turn:
            if self._state == "idle" and self.resumable and self.job is not None:
                self._resume("paused", 1)
            elif self._state == "paused":
                self._steps_allowed += 1
                self._turn.notify_all()

    def stop(self) -> None:
        """End after the step that is being made; what was made is kept."""
        with self._turn:
            if self._state in ("working", "paused"):
                self._set_state("stopping")
                self.say("Stopping …")

    def queue_action(self, act: Callable[[Any], str | None], *, go_on: bool = False) -> None:
        """Let a hand do something to the job before its next step, at once where none is being made.

        `act(job)` is called in the worker; what it returns stands in the status line. go_on: also where the job was
        held or had ended. UserError where there is no job.
        """
        with self._turn:
            if self._state == "idle" and self.job is None:
                raise UserError(f"there is nothing yet to do this to; press {self.verb} first")
            self._actions.append(act)
            if go_on and self._state == "idle":
                self._resume("working")
            elif go_on and self._state == "paused":
                self._set_state("working")
            elif self._state != "idle":
                self._turn.notify_all()
            elif self._done.is_set():
                self._start_idle_actions()

    def switch_to(self, make: Callable[[], Job], *, rest: bool = False) -> None:
        """Begin a job that comes of what is there; one under way ends first, and what it made is kept.

        `make()` is called in the worker; where it fails, the job before is still there. rest: show it and make no step.
        """
        with self._turn:
            if self._state != "idle":
                self._next_job = make, rest
                self.stop()
            elif rest:
                self._show_at_rest(make())
            else:
                self._launch(make, fresh=True)

    def wait(self, seconds: float | None = None) -> bool:
        """Block until no job is under way; False if that took longer than `seconds`."""
        return self._done.wait(seconds)

    async def run(self) -> Job | None:
        """Do in this cell what the first button does, and stay until it has ended: the job, or its error raised.

        Widgets stay alive meanwhile. Interrupting the cell is Stop: the job ends cleanly and is returned.
        """
        async with process_widget_events() as pump:
            self.stop()
            while not self._done.is_set():
                await pump()
            self.start()
            while not self._done.is_set():
                try:
                    await pump()
                except (asyncio.CancelledError, KeyboardInterrupt):
                    if self._state == "stopping":
                        raise
                    self.stop()
        if self.error is not None:
            raise self.error
        return self.job

    # What the page shows.

    def say(self, text: str, *, error: bool = False, details: str = "") -> None:
        """One line of plain text in place of the last; details are folded below it."""
        line = f'<span class="{"vqtools-error" if error else ""}">{html.escape(text)}</span>'
        if details:
            line = f"<details><summary>{line}</summary><pre>{html.escape(details)}</pre></details>"
        self.status.value = line

    def show(self, image: Image, quality: int = 88) -> None:
        data = io.BytesIO()
        image.convert("RGB").save(data, "JPEG", quality=quality, subsampling=0)
        self.picture.value = data.getvalue()
        self.picture.layout.visibility = "visible"

    def fail(self, error: BaseException, after: str = "") -> None:
        """Show an error where the status stands; a fault of ours with its traceback folded below."""
        if isinstance(error, UserError):
            self.say(f"{error}{after}", error=True)
        else:
            trace = "".join(traceback.format_exception(error))
            self.say(f"{type(error).__name__}: {error}{after}", error=True, details=trace)

    def guard(self, act: Callable[[], None]) -> Callable[[Any], None]:
        """A callback whose exceptions are shown in the panel: Jupyter would drop them into a log."""

        def call(_: Any) -> None:
            try:
                act()
            except Exception as error:
                self.fail(error)

        return call

    # The worker.

    def _launch(
        self, make: Callable[[], Job], state: RunState = "working", steps: int = 0, *, fresh: bool = False
    ) -> None:
        self._turn.wait_for(self._done.is_set, 20)  # for what a hand does to a job at rest
        self._begin(make, state, steps, fresh)

    def _begin(self, make: Callable[[], Job], state: RunState, steps: int, fresh: bool) -> None:
        self.error, self._steps_allowed, self._job_created = None, steps, False
        self._is_new_job = fresh or self.job is None
        if self._is_new_job:
            self._actions.clear()
        self._done.clear()
        self._set_state(state)
        for other in list(_runners):
            if other is not self:
                other.stop()
        threading.Thread(target=self._work, args=(make,), daemon=True, name="vqtools job").start()

    def _resume(self, state: RunState, steps: int = 0) -> None:
        job = self.job
        assert job is not None

        def same() -> Job:
            if self.before_resume is not None:
                self.before_resume(job)
            return job

        self._launch(same, state, steps)

    def _set_state(self, state: RunState) -> None:
        with self._turn:
            self._state = state
            self.refresh()
            self._turn.notify_all()

    def refresh(self) -> None:
        """Turn on the buttons that can be used now, and the others off."""
        at_rest = self.resumable and self.can_continue
        usable = {
            "start": self._state == "idle",
            "pause": self._state in ("working", "paused") or (self._state == "idle" and at_rest),
            "step": self._state == "paused" or (self._state == "idle" and at_rest),
            "stop": self._state in ("working", "paused"),
        }
        for name, button in self._buttons.items():
            button.disabled = not usable[name]
        resume = self._state == "paused" or (self._state == "idle" and at_rest)
        self._buttons["pause"].description = "Resume" if resume else "Pause"
        if self.changed is not None:
            self.changed()

    def _work(self, make: Callable[[], Job]) -> None:
        try:
            with job_lock:
                self._run_job(make)
        except BaseException as error:
            self.error = error
            self.fail(
                error, after=self._keep() if self._job_created and self.job is not None and self.job.position else ""
            )
        finally:
            self._finish_run()

    def _finish_run(self) -> None:
        with self._turn:
            (make, rest), self._next_job = self._next_job or (None, False), None
            if make is not None and self.error is None:
                if not rest:
                    self._begin(make, "working", 0, True)  # an awaiting cell stays with this one too
                    return
                self._show_at_rest(make())
            self._set_state("idle")
            if self._actions and self.job is not None:  # asked for while the last step was being made
                self._start_idle_actions()
            else:
                self._done.set()
                self._turn.notify_all()

    def _show_at_rest(self, job: Job) -> None:
        self.job, self.error = job, None
        self._actions.clear()
        self._display(job)
        self.say(f"{job.position} of {job.total}")
        self.refresh()

    def _start_idle_actions(self) -> None:
        self._done.clear()
        threading.Thread(target=self._run_idle_actions, daemon=True, name="vqtools hand").start()

    def _run_idle_actions(self) -> None:
        """What a hand does to a job at rest."""
        try:
            with job_lock:
                assert self.job is not None
                if words := self._act(self.job):
                    self.say(f"{self.job.position} of {self.job.total} · {words}")
        finally:
            self._finish_run()

    def _act(self, job: Job) -> str | None:
        """Do what a hand has asked for, and show it: the words for it, or None where it could not be done."""
        words: list[str] = []
        try:
            while self._actions:
                words += [said] if (said := self._actions.popleft()(job)) else []
            self._display(job)
        except Exception as error:
            self._message_until = time.monotonic() + MESSAGE_SECONDS
            self.fail(error)
            return None
        self.refresh()
        return " · ".join(words)

    def _run_job(self, make: Callable[[], Job]) -> None:
        if self._is_new_job:
            self.say("Getting ready …")
        job = self.job = make()
        self._job_created = True
        with contextlib.ExitStack() as hands:
            if self.after_run is not None:
                hands.callback(self.after_run, job)
            self._step_loop(job, hands)

    def _step_loop(self, job: Job, hands: contextlib.ExitStack) -> None:
        begun, first = time.monotonic(), job.position
        self._seconds.clear()
        shown = 0.0
        while self._wait_for_turn(job) and job.position < job.total:
            if self.step_context is not None:
                hands.enter_context(self.step_context(job))
            for report in iterate_steps(job, show_seconds=SHOW_SECONDS):
                self._seconds.append(time.monotonic())
                if report.image is not None:
                    self.show(report.image)
                if self.report:
                    self.report(job, report)
                now = time.monotonic()
                if now - shown > SHOW_SECONDS and self._state == "working" and now > self._message_until:
                    shown = now
                    self.say(self._progress(report))
                if not self._wait_for_turn(job):
                    break
            if self._state == "stopping":
                break
        if job.position < job.total:
            outcome = f"Stopped at {job.position} of {job.total}"
        else:
            outcome = f"Done: {job.position - first} in {format_duration(time.monotonic() - begun)}"
        self.say(outcome + (self._keep() if job.position else ""))

    def _wait_for_turn(self, job: Job) -> bool:
        """Between two steps: what a hand has asked for first; then True at once, when told to, or never."""
        words: str | None = ""
        while True:
            if acted := bool(self._actions):
                words = self._act(job)
            with self._turn:
                if self._actions:
                    continue
                if self._state != "paused":
                    if words:
                        self._message_until = time.monotonic() + MESSAGE_SECONDS / 2
                        self.say(f"{job.position} of {job.total} · {words}")
                    return self._state != "stopping"
                if self._steps_allowed:
                    self._steps_allowed -= 1
                    return True
                if not acted:
                    self._display(job)
                if words is not None:
                    self.say(f"Paused at {job.position} of {job.total}{words and f' · {words}'}")
                self._turn.wait_for(lambda: self._state != "paused" or self._steps_allowed or self._actions)
                self._seconds.clear()
                words = ""

    def _display(self, job: Job, quality: int = 88) -> None:
        image = self.preview_of(job) if self.preview_of is not None else job.preview()
        if image is not None:
            self.show(image, quality)

    def _keep(self) -> str:
        """Show the last picture well, and let `finish` save it; never in the way of the error that led here."""
        assert self.job is not None
        try:
            self._display(self.job, quality=95)
            words = self.finish(self.job) if self.finish else ""
        except Exception as error:
            words = f"not saved: {error}"
        return f" · {words}" if words else ""

    def _progress(self, report: StepReport) -> str:
        """142 of 300 · 3.1 it/s · 0:51 left · 2.4 GB · loss 0.83"""
        from vqtools.core.device import memory_in_use  # loads torch; the job has done so already

        parts = [f"{report.position} of {report.total}"]
        if len(self._seconds) > 1:
            rate = (len(self._seconds) - 1) / max(self._seconds[-1] - self._seconds[0], 1e-6)
            parts += [f"{rate:.1f} it/s", f"{format_duration((report.total - report.position) / rate)} left"]
        parts.append(f"{memory_in_use() / 2**30:.1f} GB")
        if "loss" in report.scalars:
            parts.append(f"loss {report.scalars['loss']:.3f}")
        return " · ".join(parts)


def format_duration(seconds: float) -> str:
    """Seconds -> "0:51", or "1:02:03" from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
