"""Fill in what a preset means on this machine as soon as it is measured.

Knows a form and presets; nothing about how they are measured. The first measurement takes ten seconds, in a thread: the
panel stays responsive, and fields that are edited meanwhile keep their values.
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

_SPEED_FIELDS = ("size", "vqgan", "clip", "precision", "clip_precision", "drawer")  # that the speed depends on


class PresetSizes:
    """Fills in a preset's iterations and cutouts at once, and its size once the machine's speed is known."""

    def __init__(self, form: Form[Any], runner: Runner) -> None:
        self.form, self.runner = form, runner
        self._lock = threading.Lock()
        self._request_number = 0  # of the last choice: answers to earlier ones are dropped
        self._edited_fields: set[str] = set()  # since the last choice
        self._thread: threading.Thread | None = None

    def field_changed(self, name: str) -> None:
        """A person has changed a field; call it for each."""
        if name != "preset":
            with self._lock:
                self._edited_fields.add(name)
            return
        values = self.form.values()
        self.form.set(**PRESETS[values["preset"]])
        with self._lock:
            self._request_number += 1
            self._edited_fields.clear()
        if quick_requested():
            return
        speed_fields = {field: values[field] for field in _SPEED_FIELDS}
        if PaintSettings.problems(speed_fields):  # the form marks them
            return
        self._thread = threading.Thread(
            target=self._measure,
            args=(values["preset"], speed_fields, self._request_number),
            daemon=True,
            name="vqtools preset",
        )
        self._thread.start()

    def wait(self, seconds: float | None = None) -> None:
        """Block until the last choice is filled in, at most so many seconds."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _measure(self, name: str, speed_fields: dict[str, Any], number: int) -> None:
        try:
            from vqtools.pipelines.presets import measure_presets  # loads torch

            settings = PaintSettings.parse(speed_fields)
            notify = functools.partial(self._note, number)
            # not during a run: it would distort the timing, and planning memory uses the run's own networks
            with job_lock:
                chosen = measure_presets(settings, notify=notify)[1][name]
            with self._lock:
                if number != self._request_number:
                    return
                if "size" not in self._edited_fields:  # iterations and cutouts are set already
                    self.form.set(size=chosen.size)
            later = "" if self.runner.state == "idle" else "; the size from the next run"
            self._note(number, chosen.describe() + later)
        except UserError as error:  # such as a missing network
            self._note(number, str(error))
        except Exception as error:
            self.runner.show_error(error)

    def _note(self, number: int, text: str) -> None:
        if number == self._request_number:
            self.form.note("preset", text)
