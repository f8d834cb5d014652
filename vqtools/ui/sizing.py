"""What a preset means on this machine, filled into the form as soon as it is known.

Knows a form and presets; nothing about how they are measured. The first time that takes ten seconds, in a thread: the
panel goes on hearing, and what a person sets by hand meanwhile stands.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

from vqtools.painting.settings import PRESETS, PaintSettings
from vqtools.settings import UserError, quick_requested
from vqtools.ui.form import Form
from vqtools.ui.runner import Runner, one_at_a_time

_DECIDES = ("size", "vqgan", "clip", "precision", "clip_precision", "drawer")  # what a machine's speed depends on


class Sizing:
    """Fills in a preset's iterations and cutouts at once, and its size when the machine's speed is known."""

    def __init__(self, form: Form[Any], runner: Runner) -> None:
        self.form, self.runner = form, runner
        self._lock = threading.Lock()
        self._asked = 0  # choices so far: an answer to an earlier one comes too late
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
            self._asked += 1
            self._by_hand.clear()
        if quick_requested():
            return
        plain = {one: values[one] for one in _DECIDES}
        if PaintSettings.problems(plain):  # the form says what is wrong
            return
        self._thread = threading.Thread(
            target=self._find, args=(values["preset"], plain, self._asked), daemon=True, name="vqtools preset"
        )
        self._thread.start()

    def wait(self, seconds: float | None = None) -> None:
        """Block until the last choice is filled in."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _find(self, name: str, plain: dict[str, Any], asked: int) -> None:
        try:
            from vqtools import presets  # loads torch

            settings = PaintSettings.parse(plain)
            say = functools.partial(self._say, asked)
            # not beside a run: it would be in the way of the trial, and planning memory borrows the run's own networks
            with one_at_a_time:
                chosen = presets.measured(settings, say=say)[1][name]
            with self._lock:
                if asked != self._asked:
                    return
                if "size" not in self._by_hand:  # iterations and cutouts stand there already
                    self.form.set(size=chosen.size)
            later = "" if self.runner.state == "idle" else "; the size from the next run"
            self._say(asked, chosen.describe() + later)
        except UserError as error:  # a network that is not there, say
            self._say(asked, str(error))
        except Exception as error:
            self.runner.fail(error)

    def _say(self, asked: int, words: str) -> None:
        if asked == self._asked:
            self.form.note("preset", words)
