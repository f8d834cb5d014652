"""Run a job in a worker thread: a state machine of idle, working, paused and stopping.

Knows jobs and threads; nothing about widgets. Steps are always made in the thread, so that a button takes effect in the
middle of a long step and no interrupt cuts a step in two.

Locks are taken in one order: the worker's own, then those of listeners. ``state`` can be read without any.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

from vqtools.core.errors import UserError
from vqtools.core.job import Job, StepReport, iterate_steps

RunState = Literal["idle", "working", "paused", "stopping"]
PREVIEW_SECONDS = 0.2  # between two pictures of a running job
_IDLE_ACTION_SECONDS = 20  # that a new run waits for the actions on a job at rest
job_lock = threading.Lock()  # two jobs in one kernel would only slow each other
_workers: weakref.WeakSet[JobWorker] = weakref.WeakSet()


class WorkerListener(Protocol):
    """What a worker reports, and what it asks.

    All but the first two are called in the worker's thread; job_at_rest can be called in that of ``switch_to``.
    """

    def state_changed(self) -> None:
        """The state or the job has changed."""

    def stop_requested(self, state: RunState) -> None:
        """The run will become ``state`` ("paused" or "stopping") after the present step."""

    def run_starting(self, new_job: bool) -> None:
        """A run begins; its job, if new, is about to be made."""

    def before_resume(self, job: Job) -> None:
        """A job at rest is about to be continued."""

    def step_context(self, job: Job) -> AbstractContextManager[None] | None:
        """A context manager that is held from the first step to the end of the run, or None."""

    def step_done(self, job: Job, report: StepReport) -> None:
        """A step was made."""

    def show_job(self, job: Job) -> None:
        """Show the job's picture: it may have changed without a step."""

    def job_at_rest(self, job: Job) -> None:
        """A job was put in place that makes no steps for now."""

    def job_paused(self, job: Job, message: str) -> None:
        """The job waits; ``message`` is what the last actions returned."""

    def actions_done(self, job: Job, message: str) -> None:
        """Actions were run between two steps; ``message`` is what they returned."""

    def action_failed(self, error: Exception) -> None:
        """An action raised an error; the run goes on."""

    def run_ended(self, job: Job, steps: int, seconds: float) -> None:
        """The run has ended or was stopped, after so many steps of its own."""

    def run_failed(self, error: BaseException, job: Job | None) -> None:
        """The run failed; ``job`` is given if it has made steps that can be saved."""

    def after_run(self, job: Job) -> None:
        """No more steps follow; also called for a job that made none."""


class JobWorker:
    """One job after another in a worker thread. ``resumable``: whether a job that was stopped can be continued."""

    def __init__(self, listener: WorkerListener, *, resumable: bool = False) -> None:
        self.listener, self.resumable = listener, resumable
        self.job: Job | None = None
        self.error: BaseException | None = None
        # reentrant, since listeners call back; ipykernel 7.1 to 7.3 run button callbacks in another thread
        self.lock = threading.Condition(threading.RLock())
        self._state: RunState = "idle"
        self._steps_allowed = 0  # single steps that were asked for while paused
        self._actions: deque[Callable[[Any], str | None]] = deque()  # to run between two steps
        self._is_new_job = True  # False: this run continues the job of the last
        self._job_created = False
        self._next_job: tuple[Callable[[], Job], bool] | None = None  # after this run; bool: at rest
        self._done = threading.Event()
        self._done.set()
        _workers.add(self)

    @property
    def state(self) -> RunState:
        """What the worker does now."""
        return self._state

    @property
    def is_done(self) -> bool:
        """Whether no run and no action is under way."""
        return self._done.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Block until no run is under way; False if that took longer than ``seconds``."""
        return self._done.wait(seconds)

    def start(self, plan: Callable[[], Callable[[], Job]], *, paused: bool = False) -> None:
        """Begin a run of the job that ``plan()()`` makes; ``plan`` is called here, what it returns in the thread.

        paused: make the job, but no step before :meth:`pause` or :meth:`step`. Raises UserError if a run is under way.
        """
        with self.lock:
            if self._state != "idle":
                raise UserError("a run is under way; stop it before starting the next")
            make = plan()
            self.job = None
            self._launch(make, "paused" if paused else "working")

    def pause(self) -> None:
        """Wait after the present step; when paused or, if resumable, at rest: continue."""
        with self.lock:
            if self._state == "working":
                self._set_state("paused")
                self.listener.stop_requested("paused")
            elif self._state == "paused":
                self._set_state("working")
            elif self.resumable and self.job is not None:
                self._resume("working")

    def step(self) -> None:
        """Make one step of a paused job, or of one at rest if resumable."""
        with self.lock:
            if self._state == "idle" and self.resumable and self.job is not None:
                self._resume("paused", 1)
            elif self._state == "paused":
                self._steps_allowed += 1
                self.lock.notify_all()

    def stop(self) -> None:
        """End the run after the present step."""
        with self.lock:
            if self._state in ("working", "paused"):
                self._set_state("stopping")
                self.listener.stop_requested("stopping")

    def queue_action(self, act: Callable[[Any], str | None], *, resume: bool = False) -> None:
        """Queue ``act(job)`` to run in a thread between two steps; at once if none is being made.

        It returns a message, or None. resume: continue a job that is paused or at rest. Needs a run or a job.
        """
        with self.lock:
            self._actions.append(act)
            if resume and self._state == "idle":
                self._resume("working")
            elif resume and self._state == "paused":
                self._set_state("working")
            elif self._state != "idle":
                self.lock.notify_all()
            elif self._done.is_set():
                self._start_idle_actions()

    def switch_to(self, make: Callable[[], Job], *, at_rest: bool = False) -> None:
        """Run the job that ``make()`` makes in the thread, after the run under way, which is stopped.

        If ``make`` fails, the job before stays. at_rest: show the job and make no step.
        """
        with self.lock:
            if self._state != "idle":
                self._next_job = make, at_rest
                self.stop()
            elif at_rest:
                self._put_at_rest(make())
            else:
                self._launch(make, new_job=True)

    def discard_job(self) -> None:
        """Forget the job, as if none had been made."""
        self.job = None

    def _launch(
        self, make: Callable[[], Job], state: RunState = "working", steps: int = 0, *, new_job: bool = False
    ) -> None:
        self.lock.wait_for(self._done.is_set, _IDLE_ACTION_SECONDS)
        self._start_thread(make, state, steps, new_job)

    def _resume(self, state: RunState, steps: int = 0) -> None:
        job = self.job
        assert job is not None

        def continued() -> Job:
            self.listener.before_resume(job)
            return job

        self._launch(continued, state, steps)

    def _start_thread(self, make: Callable[[], Job], state: RunState, steps: int, new_job: bool) -> None:
        self.error, self._steps_allowed, self._job_created = None, steps, False
        self._is_new_job = new_job or self.job is None
        if self._is_new_job:
            self._actions.clear()
        self._done.clear()
        self._set_state(state)
        for worker in list(_workers):
            if worker is not self:
                worker.stop()
        threading.Thread(target=self._run, args=(make,), daemon=True, name="vqtools job").start()

    def _set_state(self, state: RunState) -> None:
        with self.lock:
            self._state = state
            self.listener.state_changed()
            self.lock.notify_all()

    def _put_at_rest(self, job: Job) -> None:
        self.job, self.error = job, None
        self._actions.clear()
        self.listener.job_at_rest(job)

    # In the worker's thread.

    def _run(self, make: Callable[[], Job]) -> None:
        try:
            with job_lock:
                self._run_job(make)
        except BaseException as error:
            self.error = error
            has_steps = self._job_created and self.job is not None and self.job.position
            self.listener.run_failed(error, self.job if has_steps else None)
        finally:
            self._finish_run()

    def _run_job(self, make: Callable[[], Job]) -> None:
        self.listener.run_starting(self._is_new_job)
        job = self.job = make()
        self._job_created = True
        with contextlib.ExitStack() as contexts:
            contexts.callback(self.listener.after_run, job)
            self._step_loop(job, contexts)

    def _step_loop(self, job: Job, contexts: contextlib.ExitStack) -> None:
        begun, first = time.monotonic(), job.position
        while self._wait_for_turn(job) and job.position < job.total:
            if (context := self.listener.step_context(job)) is not None:
                contexts.enter_context(context)
            for report in iterate_steps(job, show_seconds=PREVIEW_SECONDS):
                self.listener.step_done(job, report)
                if not self._wait_for_turn(job):
                    break
            if self._state == "stopping":
                break
        self.listener.run_ended(job, job.position - first, time.monotonic() - begun)

    def _wait_for_turn(self, job: Job) -> bool:
        """Run the queued actions, wait while paused, and return whether to make another step."""
        message: str | None = ""
        while True:
            if acted := bool(self._actions):
                message = self._run_actions(job)
            with self.lock:
                if self._actions:
                    continue
                if self._state != "paused":
                    if message:
                        self.listener.actions_done(job, message)
                    return self._state != "stopping"
                if self._steps_allowed:
                    self._steps_allowed -= 1
                    return True
                if not acted:
                    self.listener.show_job(job)
                if message is not None:  # else the error stays in the status line
                    self.listener.job_paused(job, message)
                self.lock.wait_for(lambda: self._state != "paused" or self._steps_allowed or self._actions)
                message = ""

    def _run_actions(self, job: Job) -> str | None:
        """Run the queued actions and show the job: their messages, or None if one failed."""
        messages: list[str] = []
        try:
            while self._actions:
                if message := self._actions.popleft()(job):
                    messages.append(message)
            self.listener.show_job(job)
        except Exception as error:
            self.listener.action_failed(error)
            return None
        self.listener.state_changed()
        return " · ".join(messages)

    def _finish_run(self) -> None:
        with self.lock:
            (make, at_rest), self._next_job = self._next_job or (None, False), None
            if make is not None and self.error is None:
                if not at_rest:
                    self._start_thread(make, "working", 0, True)  # before _done is set: an awaiting cell stays
                    return
                self._put_at_rest(make())
            self._set_state("idle")
            if self._actions and self.job is not None:  # queued while the last step was being made
                self._start_idle_actions()
            else:
                self._done.set()
                self.lock.notify_all()

    def _start_idle_actions(self) -> None:
        self._done.clear()
        threading.Thread(target=self._run_idle_actions, daemon=True, name="vqtools action").start()

    def _run_idle_actions(self) -> None:
        try:
            with job_lock:
                assert self.job is not None
                if message := self._run_actions(self.job):
                    self.listener.actions_done(self.job, message)
        finally:
            self._finish_run()
