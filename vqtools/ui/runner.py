"""Drive a job from a notebook: buttons, the picture as it forms, one line of status.

Knows jobs, widgets and how ipykernel delivers their messages; nothing about prompts, forms or files.

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
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Literal

import ipywidgets as widgets

from vqtools.jobs import Job, Report, steps
from vqtools.settings import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

State = Literal["idle", "working", "paused", "stopping"]
USABLE: dict[State, set[str]] = {
    "idle": {"start"},
    "working": {"pause", "stop"},
    "paused": {"pause", "step", "stop"},
    "stopping": set(),
}
SHOW_SECONDS = 0.2
_one_at_a_time = threading.Lock()  # two jobs in one kernel would only slow each other
_runners: weakref.WeakSet[Runner] = weakref.WeakSet()


class Runner:
    """One job after another, each made by what `plan` returns.

    `plan()` is called at the click: it checks what was asked, quickly, and returns a function that makes the job; that
    one is called in the worker and may take its time. `finish(job)` keeps what was made, by a job that ended, was
    stopped or failed after its first step, and returns the words that the status line ends with. `report(job, report)`
    is called in the worker whenever a new picture is shown.
    """

    def __init__(
        self,
        plan: Callable[[], Callable[[], Job]],
        *,
        finish: Callable[[Job], str] | None = None,
        report: Callable[[Job, Report], None] | None = None,
        verb: str = "Start",
    ) -> None:
        self.plan, self.finish, self.report = plan, finish, report
        self.job: Job | None = None
        self.error: BaseException | None = None
        self._state: State = "idle"
        self._turn = threading.Condition(threading.RLock())  # on ipykernel 7.1 to 7.3 clicks come from another thread
        self._allowed = 0  # steps that Step has asked for
        self._done = threading.Event()
        self._done.set()
        self._seconds: deque[float] = deque(maxlen=30)

        self.picture = widgets.Image(format="jpeg", layout=widgets.Layout(visibility="hidden"))
        self.view = widgets.Box([self.picture])
        self.view.add_class("vqtools-picture")
        self.status = widgets.HTML()
        self.status.add_class("vqtools-status")
        self._buttons = {
            name: widgets.Button(description=text, disabled=name != "start", layout=widgets.Layout(width="84px"))
            for name, text in {"start": verb, "pause": "Pause", "step": "Step", "stop": "Stop"}.items()
        }
        self._buttons["start"].button_style = "primary"
        for name, act in {"start": self.start, "pause": self.pause, "step": self.step, "stop": self.stop}.items():
            self._buttons[name].on_click(self.guarded(act))
        self.buttons = widgets.HBox([*self._buttons.values(), self.status])
        self.buttons.add_class("vqtools-row")
        _runners.add(self)

    @property
    def state(self) -> State:
        return self._state

    # What the buttons do.

    def start(self) -> None:
        """Begin in the background. UserError if the plan is impossible or a job is under way."""
        with self._turn:
            if self._state != "idle":
                raise UserError("a run is under way; stop it before starting the next")
            make = self.plan()
            self.job, self.error, self._allowed = None, None, 0
            self._done.clear()
            self._enter("working")
        for other in list(_runners):
            if other is not self:
                other.stop()
        threading.Thread(target=self._work, args=(make,), daemon=True, name="vqtools job").start()

    def pause(self) -> None:
        """Hold after the step that is being made; again: go on."""
        with self._turn:
            if self._state == "working":
                self._enter("paused")
                self.say("Pausing …")
            elif self._state == "paused":
                self._enter("working")

    def step(self) -> None:
        """One step of a paused job."""
        with self._turn:
            if self._state == "paused":
                self._allowed += 1
                self._turn.notify_all()

    def stop(self) -> None:
        """End after the step that is being made; what was made is kept."""
        with self._turn:
            if self._state in ("working", "paused"):
                self._enter("stopping")
                self.say("Stopping …")

    def wait(self, seconds: float | None = None) -> bool:
        """Block until no job is under way; False if that took longer than `seconds`."""
        return self._done.wait(seconds)

    async def run(self) -> Job | None:
        """Do in this cell what the first button does, and stay until it has ended: the job, or its error raised.

        Widgets stay alive meanwhile. Interrupting the cell is Stop: the job ends cleanly and is returned.
        """
        async with _listening() as pump:
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

    def guarded(self, act: Callable[[], None]) -> Callable[[Any], None]:
        """A callback whose exceptions are shown in the panel: Jupyter would drop them into a log."""

        def call(_: Any) -> None:
            try:
                act()
            except Exception as error:
                self.fail(error)

        return call

    # The worker.

    def _enter(self, state: State) -> None:
        with self._turn:
            self._state = state
            for name, button in self._buttons.items():
                button.disabled = name not in USABLE[state]
            self._buttons["pause"].description = "Resume" if state == "paused" else "Pause"
            self._turn.notify_all()

    def _work(self, make: Callable[[], Job]) -> None:
        try:
            with _one_at_a_time:
                self._drive(make)
        except BaseException as error:
            self.error = error
            self.fail(error, after=self._keep() if self.job is not None and self.job.position else "")
        finally:
            self._enter("idle")
            self._done.set()

    def _drive(self, make: Callable[[], Job]) -> None:
        self.say("Getting ready …")
        job = self.job = make()
        begun = time.monotonic()
        self._seconds.clear()
        shown = 0.0
        if self._may_go_on(job):
            for report in steps(job, show_seconds=SHOW_SECONDS):
                self._seconds.append(time.monotonic())
                if report.image is not None:
                    self.show(report.image)
                    if self.report:
                        self.report(job, report)
                if time.monotonic() - shown > SHOW_SECONDS and self._state == "working":
                    shown = time.monotonic()
                    self.say(self._progress(report))
                if not self._may_go_on(job):
                    break
        if job.position < job.total:
            outcome = f"Stopped at {job.position} of {job.total}"
        else:
            outcome = f"Done: {job.total} in {clock(time.monotonic() - begun)}"
        self.say(outcome + (self._keep() if job.position else ""))

    def _may_go_on(self, job: Job) -> bool:
        """Between two steps: True at once, when told to, or never."""
        with self._turn:
            if self._state == "paused" and not self._allowed:
                self._display(job)
                self.say(f"Paused at {job.position} of {job.total}")
                self._turn.wait_for(lambda: self._state != "paused" or self._allowed)
                self._seconds.clear()
            self._allowed = max(0, self._allowed - 1)
            return self._state != "stopping"

    def _display(self, job: Job, quality: int = 88) -> None:
        image = job.preview()
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

    def _progress(self, report: Report) -> str:
        """142 of 300 · 3.1 it/s · 0:51 left · loss 0.83"""
        parts = [f"{report.position} of {report.total}"]
        if len(self._seconds) > 1:
            rate = (len(self._seconds) - 1) / max(self._seconds[-1] - self._seconds[0], 1e-6)
            parts += [f"{rate:.1f} it/s", f"{clock((report.total - report.position) / rate)} left"]
        if "loss" in report.scalars:
            parts.append(f"loss {report.scalars['loss']:.3f}")
        return " · ".join(parts)


def clock(seconds: float) -> str:
    """Seconds -> "0:51", or "1:02:03" from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


# Widget messages while a cell runs. Tried on ipykernel 6.17, 6.31 and 7.4.


@contextlib.asynccontextmanager
async def _listening() -> AsyncIterator[Callable[[], Any]]:
    """A pump to await: some 10 ms in which the kernel hears its widgets and nothing else."""
    kernel = _kernel()
    if kernel is None:
        yield _breathe
    elif hasattr(kernel, "msg_queue"):
        yield lambda: _pump_queue(kernel)
    else:
        handlers = kernel.shell_handlers
        handle = handlers["comm_msg"]

        def handle_and_answer(stream: Any, ident: Any, message: Any) -> Any:
            try:
                return handle(stream, ident, message)
            finally:  # 7.4 sends no status here, and the front end holds the widget's next change back until it comes
                kernel._publish_status("idle", "shell", parent=message)

        handlers["comm_msg"] = handle_and_answer
        try:
            yield _breathe
        finally:
            handlers["comm_msg"] = handle


def _kernel() -> Any:
    from IPython.core.getipython import get_ipython

    return getattr(get_ipython(), "kernel", None)


async def _breathe() -> None:
    await asyncio.sleep(0.01)


async def _pump_queue(kernel: Any) -> None:
    """ipykernel 6: dispatch the widget messages that wait behind this cell, and leave the next cells waiting."""
    waiting = []
    while not kernel.msg_queue.empty():
        waiting.append(kernel.msg_queue.get_nowait())
    heard = []
    for item in waiting:
        _, frames = kernel.session.feed_identities(item[2][0], copy=False)
        kind = kernel.session.unpack(frames[1].bytes)["msg_type"]
        if kind.startswith("comm_"):
            heard.append(item)
        else:
            kernel.msg_queue.put_nowait(item)
    parent, ident = kernel._parents.get("shell"), kernel._parent_ident.get("shell")
    handler = getattr(kernel, "saved_sigint_handler", None)
    try:
        for _, dispatch, args in heard:
            await dispatch(*args)
    finally:
        if heard:
            kernel.set_parent(ident, parent)
            kernel.saved_sigint_handler = handler
    await asyncio.sleep(0.01)
