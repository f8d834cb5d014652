"""The form of the painting panel: fields that depend on each other, additions to the prompt, edits of a session.

Knows painting settings and which of them a session takes in mid-run; nothing about the page around the form.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vqtools.painting.prompt_blocks import add_blocks
from vqtools.painting.prompts import append_picture
from vqtools.painting.settings import PRESETS, PaintSettings, matching_transformer
from vqtools.ui.form import Form
from vqtools.ui.job_runner import Runner
from vqtools.ui.live_form import NEXT_RUN, LiveForm
from vqtools.ui.preset_sizes import PresetSizes


class PaintForm(LiveForm):
    """A form of :class:`PaintSettings` whose changes edit a :class:`~vqtools.painting.session.PaintSession`."""

    def __init__(self, form: Form[PaintSettings], runner: Runner) -> None:
        super().__init__(
            form,
            runner,
            edit=_edit_session,
            fields_of=lambda job: PaintSettings.live_fields() if job is None or job.steerable else frozenset(),
            next_step="from the next step on",
            since=lambda session: f"since step {session.position}",
        )
        self.preset_sizes = PresetSizes(form, runner)

    def field_changed(self, name: str, *, viewing_past: bool = False) -> None:
        """A person has changed a field: change those that depend on it, then edit the job."""
        self.preset_sizes.field_changed(name)
        if name in ("vqgan", "clip"):
            self._match_transformer()
        job: Any = self.runner.job
        if job is None or job.steerable:
            super().field_changed(name, viewing_past=viewing_past)
        else:
            live = name in PaintSettings.live_fields()
            self.form.note(name, "for the painting that you continue" if live else NEXT_RUN)

    def change(self, **changes: Any) -> None:
        """Change settings of the job before its next step, in the form too. Raises UserError if there is no job."""
        self.form.set(**{**PRESETS.get(str(changes.get("preset")), {}), **changes})
        self.edit(changes)

    def use_picture(self, field: str, path: Path) -> None:
        """Set init_image or style_image to a picture file, or add it to the prompt."""
        self._type(field, append_picture(self.form.values()["prompt"], path) if field == "prompt" else str(path))
        if field == "init_image":
            self.form.set(init="auto")
            self.runner.set_status(f"The next picture starts from {path}.")

    def add_block(self, name: str) -> None:
        """Add a building block to the prompt, by its name."""
        self._type("prompt", add_blocks(self.form.values()["prompt"], [name]))

    def total_steps(self, job: Any) -> int:
        """Steps of a job in all, should it be continued with the iterations that the form shows."""
        iterations, total = self.form.values()["iterations"], int(job.total)
        if not job.steerable or not self.pending & {"iterations", "preset"} or not isinstance(iterations, int):
            return total
        return total + iterations - int(job.settings.iterations)

    def _type(self, name: str, value: Any) -> None:
        """Set a field as if it were typed."""
        self.form.set(**{name: value})
        if self.form.on_change is not None:
            self.form.on_change(name)

    def _match_transformer(self) -> None:
        """Choose the starter transformer for the starter VQGAN and CLIP, and none for others."""
        values = self.form.values()
        current, matching = values["transformer"], matching_transformer(values["vqgan"], values["clip"])
        if current not in ("starter", "none") or current == matching:
            return
        self.form.set(transformer=matching)
        if matching == "starter":
            self.form.note("transformer", "")
        else:
            self.form.note("transformer", "none: the starter transformer fits only the starter VQGAN and CLIP")
            self.runner.set_status("No transformer fits this VQGAN and CLIP: the picture starts from random codes.")


def _edit_session(session: Any, changes: dict[str, Any]) -> str:
    session.edit(changes)
    return f"{', '.join(name.replace('_', ' ') for name in changes)} changed"
