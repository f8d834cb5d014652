"""What a preset means on this machine, filled into the form as soon as it is known.

Knows a form and presets; nothing about how they are measured. The first time that takes ten seconds, in a thread: the
panel goes on hearing, and what a person sets by hand meanwhile stands.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

from vqtools.core.errors import UserError
from vqtools.core.settings import quick_requested
from vqtools.painting.settings import PRESETS, PaintSettings
from vqtools.ui.form import Form
from vqtools.ui.job_runner import Runner
from vqtools.ui.job_worker import job_lock

_SPEED_FIELDS = ("size", "vqgan", "clip", "precision", "clip_precision", "drawer")  # what a machine's speed depends on


class PresetSizes:
    """Fills in a preset's iterations and cutouts at once, and its size when the machine's speed is known."""

    def __init__(self, form: Form[Any], runner: Runner) -> None:
        self.form, self.runner = form, runner
        self._lock = threading.Lock()
        self._request_number = 0  # choices so far: an answer to an earlier one comes too late
        self._by_hand: set[str] = set()  # fields that a person has changed since
        self._thread: threading.Thread | None = None

    def changed(self, name: str) -> None:
        """A person has changed a field; call it for every one."""
        if name != "preset":
            with self._lock:
                self._by_hand.add(name)
            return
        values = self.form.values()
        self.form.set(**PRESETS[values["preset"]])
        with self._lock:
            self._request_number += 1
            self._by_hand.clear()
        if quick_requested():
            return
        plain = {one: values[one] for one in _SPEED_FIELDS}
        if PaintSettings.problems(plain):  # the form says what is wrong
            return
        self._thread = threading.Thread(
            target=self._find, args=(values["preset"], plain, self._request_number), daemon=True, name="vqtools preset"
        )
        self._thread.start()

    def wait(self, seconds: float | None = None) -> None:
        """Block until the last choice is filled in."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _find(self, name: str, plain: dict[str, Any], asked: int) -> None:
        try:
            from vqtools.pipelines.presets import measure_presets  # loads torch

            settings = PaintSettings.parse(plain)
            notify = functools.partial(self._note, asked)
            # not beside a run: it would be in the way of the trial, and planning memory borrows the run's own networks
            with job_lock:
                chosen = measure_presets(settings, notify=notify)[1][name]
            with self._lock:
                if asked != self._request_number:
                    return
                if "size" not in self._by_hand:  # iterations and cutouts stand there already
                    self.form.set(size=chosen.size)
            later = "" if self.runner.state == "idle" else "; the size from the next run"
            self._note(asked, chosen.describe() + later)
        except UserError as error:  # a network that is not there, say
            self._note(asked, str(error))
        except Exception as error:
            self.runner.show_error(error)

    def _note(self, asked: int, words: str) -> None:
        if asked == self._request_number:
            self.form.note("preset", words)
