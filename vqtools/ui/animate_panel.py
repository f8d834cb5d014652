"""The panel of notebook 05: a motion to preview, frames as they are made, a video at the end.

Knows which settings, job and folder belong together; nothing about how a frame is made.
"""

from __future__ import annotations

import html
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from vqtools.animation.settings import (
    CURVE_FIELDS,
    IDENTITY_MOTION,
    MOTION_PRESETS,
    STEERABLE_FIELDS,
    AnimateSettings,
)
from vqtools.core.job import Job
from vqtools.core.paths import file_stem
from vqtools.ui.animation_start import clear_start_picture, load_start_picture, settings_from_picture
from vqtools.ui.curve_editor import CurveEditor
from vqtools.ui.live_form import LiveForm
from vqtools.ui.panel import Panel
from vqtools.ui.widget_bytes import png_bytes

_CURVE_INPUTS = frozenset({"motion", "frames", "size", "seed", "interpolation", *CURVE_FIELDS})  # that change a curve


class AnimatePanel(Panel):
    """Prompts and a motion, frames on disk, a video at the end; the time it takes is shown before the first frame.

    *Dry run* plays the motion on a test card, *Forecast* estimates time and disk space and waits, *Throw away* removes
    the last frames; changes in the form then apply from there. Every button has a method, to be called from a cell.
    """

    verb = "Animate"
    resumable = True
    hint = "Type a prompt, choose a motion, and press Animate."

    def __init__(
        self, settings: AnimateSettings | None = None, *, folder: str | Path = "animations", **options: Any
    ) -> None:
        self.film: Path | None = None  # the last video
        settings = settings or AnimateSettings()
        self.start_picture = load_start_picture(Path(folder))
        if self.start_picture is not None:
            settings = settings_from_picture(self.start_picture, settings)
            self.hint = f"Starts with {self.start_picture.name}, from 04_paint. {self.hint}"
        super().__init__(settings, folder=folder, **options)
        self.live_form = LiveForm(
            self.form,
            self.runner,
            edit=_steer,
            fields_of=lambda job: STEERABLE_FIELDS if job is None else job.steerable_fields,
            expand=self._with_curves,
            next_step="from the next frame on",
            on_resume="when it is resumed",
        )
        self.note = widgets.HTML()
        self.note.add_class("vqtools-note")
        self.video = widgets.Output()
        self.video.add_class("vqtools-films")
        self.waveform = widgets.Image(format="png", layout=widgets.Layout(display="none", max_width="640px"))
        self.curves = CurveEditor(AnimateSettings.parse(self.form.values()), self._edit_curve)
        rows = (self._build_tools(), self.note, self.video, self.waveform, self._build_curve_accordion())
        self.view.children = (*self.view.children, *rows)
        self._attach()

    def _build_tools(self) -> Any:
        self.rewind_frames = widgets.BoundedIntText(30, min=1, max=10_000, layout=widgets.Layout(width="70px"))
        self.tools = {
            name: widgets.Button(description=text, tooltip=tip, layout=widgets.Layout(width=width))
            for name, text, tip, width in (
                ("dry", "Dry run", "the motion on a test card, in seconds", "84px"),
                ("forecast", "Forecast", "time, frames and disk space; Resume then begins", "84px"),
                ("rewind", "Throw away", "remove the last frames; then change something and resume", "112px"),
            )
        }
        callbacks = {
            "dry": self._on_dry_run,
            "forecast": self.forecast,
            "rewind": lambda: self.throw_away(self.rewind_frames.value),
        }
        for name, callback in callbacks.items():
            self.tools[name].on_click(self.runner.guard(callback))
        row = widgets.HBox([*self.tools.values(), self.rewind_frames, widgets.Label("frames")])
        row.add_class("vqtools-row")
        return row

    def _build_curve_accordion(self) -> Any:
        accordion = widgets.Accordion(children=[self.curves.view], selected_index=0)
        accordion.set_title(0, "curves: drag a point, double-click to add or remove one")
        accordion.add_class("vqtools-folded")
        return accordion

    async def run(self) -> Path | None:
        """Do what Animate does in this cell, until the run ends or is stopped.

        Returns the video's file, or None if the run was stopped before its first step.
        """
        job = await self.runner.run()
        return self.film if job is not None and job.position else None

    # What the buttons do; each method can be called from a cell.

    def dry_run(self) -> threading.Thread:
        """Play the motion on a test card, with the sound that it follows; returns the thread that makes it."""
        settings: Any = self.form.settings()

        def make() -> None:
            from vqtools.animation.test_card import test_card

            try:
                if settings.audio:
                    self._show_audio(settings)
                self._show_video(test_card(settings))
            except Exception as error:
                self.runner.show_error(error)
            else:
                self.note.value = f"The motion alone, {settings.frames} frames on a test card."

        thread = threading.Thread(target=make, daemon=True, name="vqtools dry run")
        thread.start()
        return thread

    def forecast(self) -> None:
        """Show the estimate and wait: Resume begins, Stop discards the run."""
        self.runner.start(paused=True)

    def throw_away(self, frames: int) -> None:
        """Remove the last frames; when resumed, the form's settings apply from there."""

        def act(job: Any) -> str:
            from vqtools.pipelines.animate import rewind_animation

            with job.project.locked():
                return f"{rewind_animation(job, frames)}; change something, and Resume"

        self.runner.queue_action(act)

    def edit(self, **changes: Any) -> None:
        """Change settings from the next frame on, in the form too."""
        self.form.set(**changes)
        for name in changes:
            self._changed(name)

    # Hooks of the runner.

    def plan(self) -> Callable[[], Job]:
        """Check the form; return the function that makes its job."""
        self.live_form.pending.clear()
        return super().plan()

    def before_resume(self, job: Any) -> None:
        """Apply the changes that were made at rest."""
        with job.project.locked():
            if self.live_form.apply_pending(job):
                self.form.clear_notes()

    def step_context(self, job: Any) -> AbstractContextManager[None]:
        """The lock of the project's folder, so that no other process writes frames there."""
        lock: AbstractContextManager[None] = job.project.locked()
        return lock

    def finish(self, job: Any) -> str:
        """Write the video of the finished frames."""
        from vqtools.animation.project import export_animation_video
        from vqtools.media.video import video_widget

        if not job.done:
            return "no frame is finished yet"
        with job.project.locked():
            self.film = export_animation_video(job.project, job.settings).path
        self._show_video(video_widget(self.film))
        return f"saved as {self.film}"

    def after_run(self, job: Any) -> None:
        """Leave no empty folder; frames extracted from a video are written again by the next job."""
        if job.settings.video and job.position:
            return
        if job.project.discard_if_empty() and not job.position:
            self.runner.discard_job()

    # Helpers.

    def _create_job(self, settings: AnimateSettings) -> Job:
        from vqtools.animation.project import Project
        from vqtools.pipelines.animate import create_animation, estimate_animation, fit_to_video

        settings = fit_to_video(settings, () if settings.video else ("fps", "frames")).with_seed()
        stem = file_stem(settings.prompt, settings.known_seed)
        project = Project.create_lazily(self.folder / stem, {"settings": settings.model_dump(mode="json")})
        try:
            job = create_animation(settings, project)
            estimate = estimate_animation(job)
            project.check_free_space(estimate.bytes)
        except BaseException:
            project.discard_if_empty()  # a run that can't be made leaves nothing behind
            raise
        self.note.value = html.escape(str(estimate))
        if self.start_picture is not None and settings.init_image == str(self.start_picture):
            clear_start_picture(self.folder)
        return job

    def _on_dry_run(self) -> None:
        self.dry_run()

    def _show_video(self, video: Any) -> None:
        self.video.outputs = ()
        self.video.append_display_data(video)

    def _show_audio(self, settings: AnimateSettings) -> None:
        """Show the sound's waveform and the curves that formulas can use."""
        from vqtools.animation.audio import analyse_audio, plot_audio

        sound = analyse_audio(settings.audio, settings.fps)
        self.waveform.value = png_bytes(plot_audio(settings.audio, sound))
        self.waveform.layout.display = ""
        self.curves.audio_curves = sound.curves
        self.curves.show(settings)

    def _edit_curve(self, name: str, text: str) -> None:
        """Write a curve that was edited into its field."""
        self.form.set(**{name: text})
        self._changed(name)

    def _changed(self, name: str) -> None:
        def act() -> None:
            if name == "motion":
                self.form.set(**{**IDENTITY_MOTION, **MOTION_PRESETS[self.form.values()["motion"]]})
            if name in _CURVE_INPUTS and not self.form.problems():
                self.curves.show(AnimateSettings.parse(self.form.values()))
            self.live_form.field_changed(name)

        self.runner.guard(act)(None)

    def _with_curves(self, name: str) -> dict[str, Any]:
        """A field's value in the form; for the motion, its curves too."""
        values = self.form.values()
        names = (name, *IDENTITY_MOTION) if name == "motion" else (name,)
        return {field: values[field] for field in names}


def _steer(job: Any, changes: dict[str, Any]) -> str:
    job.steer(changes)
    names = ", ".join(name.replace("_", " ") for name in changes)
    return f"{names} changed from {'the next picture' if job.settings.octave_zoom else f'frame {job.done}'} on"
