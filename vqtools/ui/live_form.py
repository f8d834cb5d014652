"""Carries changes of a form into the job that runs, and says under each field from when a change counts.

Knows forms, runners and which fields a job takes in mid-run; nothing about what the settings are for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vqtools.core.settings import Settings
from vqtools.ui.form import Form
from vqtools.ui.job_runner import Runner

NEXT_RUN = "from the next run"
NEXT_BRANCH = "from the branch on"


class LiveForm:
    """Edits a running job from its form; keeps the changes that are made while the job is at rest.

    edit(job, changes): change the job's settings; returns a message for the status line.
    fields_of(job): the fields that can be changed in mid-run; job is None while it is being made.
    expand(name): the changes that a change of one field means, itself included; by default its value in the form.
    next_step, on_resume: notes under a field that was changed during a run, and at rest.
    since(job): note that replaces ``next_step`` once the change has taken effect.
    """

    def __init__(
        self,
        form: Form[Any],
        runner: Runner,
        *,
        edit: Callable[[Any, dict[str, Any]], str],
        fields_of: Callable[[Any], frozenset[str]],
        expand: Callable[[str], Mapping[str, Any]] | None = None,
        next_step: str,
        on_resume: str = "",
        since: Callable[[Any], str] | None = None,
    ) -> None:
        self.form, self.runner = form, runner
        self.pending: set[str] = set()  # fields that were changed at rest: they count when the job is continued
        self._edit, self._fields_of, self._since = edit, fields_of, since
        self._expand = expand or (lambda name: {name: form.values()[name]})
        self._next_step, self._on_resume = next_step, on_resume

    def field_changed(self, name: str, *, viewing_past: bool = False) -> None:
        """A person has changed a field. viewing_past: they look at an earlier step, from which a branch can begin."""
        idle = self.runner.state == "idle"
        if self.runner.job is None and idle:
            return
        if name not in self._fields_of(self.runner.job):
            if not idle:
                self.form.note(name, NEXT_RUN)
        elif idle or viewing_past:
            self.pending.add(name)
            if note := NEXT_BRANCH if viewing_past else self._on_resume:
                self.form.note(name, note)
            self.runner.refresh()
        elif name not in self.form.problems():
            self.form.note(name, self._next_step)
            self.edit(self._expand(name))

    def edit(self, changes: Mapping[str, Any]) -> None:
        """Change settings of the job before its next step. Raises UserError if there is no job."""
        self.runner.queue_action(lambda job: self._edit_now(job, dict(changes)))

    def _edit_now(self, job: Any, changes: dict[str, Any]) -> str:
        if not self._fields_of(job):
            return ""
        message = self._edit(job, changes)
        if self._since is not None:
            for name in changes:
                self.form.note(name, self._since(job))
        return message

    def apply_pending(self, job: Any) -> bool:
        """Give a job that is continued what was changed while it was at rest; False if there was nothing."""
        changes: dict[str, Any] = {}
        for name in sorted(self.pending):
            changes |= self._expand(name)
        fields = self._fields_of(job)
        changes = {name: value for name, value in changes.items() if name in fields}
        if changes:
            self._edit(job, changes)
        self.pending.clear()
        return bool(changes)

    def show_settings(self, job: Any) -> None:
        """Show the job's settings in the form; fields that count only from the next run stay."""
        self.form.clear_notes()
        self.form.set(**{name: getattr(job.settings, name) for name in self._fields_of(job)})

    def load(self, settings: Settings) -> None:
        """Show other settings; the run under way keeps its own, a job at rest takes them when it is continued."""
        self.form.clear_notes()
        self.form.load(settings)
        self.pending = set(self._fields_of(self.runner.job)) if self.runner.job is not None else set()
        self.runner.refresh()
