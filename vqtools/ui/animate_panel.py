"""The panel of notebook 05: a motion seen before it is paid for, frames as they arrive, a video at the end.

Knows which settings, job and folder belong together; nothing about how a frame is made.
"""

from __future__ import annotations

import html
import io
import secrets
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
    OCTAVE_ZOOM_LIVE_FIELDS,
    AnimateSettings,
)
from vqtools.animation.test_card import test_card
from vqtools.core.job import Job
from vqtools.core.paths import file_stem
from vqtools.ui.animation_start import clear_start_picture, load_start_picture, settings_from_picture
from vqtools.ui.curve_editor import CurveEditor
from vqtools.ui.panel import Panel

_NEXT_RUN_FIELDS = {"size", "frames", "fps", "seed", "vqgan", "clip", "transformer", "grids", "precision",
                  "clip_precision", "compile", "iterations", "preset", "format"}  # fmt: skip


class AnimatePanel(Panel):
    """Prompts and a motion, frames on disk, a video at the end; what it will take is said before the first frame.

    *Dry run* plays the motion on a test card, *Forecast* says what it will take and waits, *Throw away* goes back some
    frames: what is changed in the form then counts from there. Everything the buttons do can be called from a cell.
    """

    verb = "Animate"
    resumable = True
    hint = "Say what you want to see, choose a motion, and press Animate."

    def __init__(
        self, settings: AnimateSettings | None = None, *, folder: str | Path = "animations", **options: Any
    ) -> None:
        self.film: Path | None = None  # the last video
        self.note = widgets.HTML()
        self.note.add_class("vqtools-note")
        self.video = widgets.Output()
        self.video.add_class("vqtools-films")
        self.waveform = widgets.Image(format="png", layout=widgets.Layout(display="none", max_width="640px"))
        self.start_picture = load_start_picture(Path(folder))
        settings = settings or AnimateSettings()
        if self.start_picture is not None:
            settings = settings_from_picture(self.start_picture, settings)
            self.hint = f"Begins with {self.start_picture.name}, from 04_paint. {self.hint}"
        super().__init__(settings, folder=folder, **options)
        self._held: set[str] = set()  # fields changed while no run was under way: they count when it goes on
        self.curves = CurveEditor(AnimateSettings.parse(self.form.values()), self._draw)
        self.view.children = (
            *self.view.children,
            self._tools(),
            self.note,
            self.video,
            self.waveform,
            self._curve_fold(),
        )
        self._attach()

    def _tools(self) -> Any:
        self.back = widgets.BoundedIntText(30, min=1, max=10_000, layout=widgets.Layout(width="70px"))
        self.tools = {
            name: widgets.Button(description=text, tooltip=tip, layout=widgets.Layout(width=width))
            for name, text, tip, width in (
                ("dry", "Dry run", "the motion on a test card, in seconds", "84px"),
                ("forecast", "Forecast", "time, frames and disk; Resume then begins", "84px"),
                ("back", "Throw away", "the last frames go; then change something and resume", "112px"),
            )
        }
        for name, act in {"dry": self._on_dry_run, "forecast": self.forecast, "back": self._on_throw_away}.items():
            self.tools[name].on_click(self.runner.guard(act))
        row = widgets.HBox([*self.tools.values(), self.back, widgets.Label("frames")])
        row.add_class("vqtools-row")
        return row

    def _curve_fold(self) -> Any:
        folded = widgets.Accordion(children=[self.curves.view], selected_index=0)
        folded.set_title(0, "curves: drag a point, double-click for a new one or to take one away")
        folded.add_class("vqtools-folded")
        return folded

    async def run(self) -> Path | None:
        """Do what Animate does, in this cell: the video's file, also of the frames that were made before a stop."""
        job = await self.runner.run()
        return self.film if job is not None and job.position else None

    # What the buttons do.

    def dry_run(self) -> threading.Thread:
        """Play the motion on a test card, under the sound that it follows; returns the thread that makes it."""
        settings: Any = self.form.settings()

        def make() -> None:
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
        """Say what it will take, and wait: Resume begins, Stop forgets it."""
        self.runner.start(paused=True)

    def throw_away(self, frames: int) -> None:
        """Go back by the last frames; the form's settings count from there, when it goes on."""

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

    # How.

    def _on_dry_run(self) -> None:
        self.dry_run()

    def _on_throw_away(self) -> None:
        self.throw_away(self.back.value)

    def _create_job(self, settings: AnimateSettings) -> Job:
        from vqtools.animation.project import Project
        from vqtools.pipelines.animate import create_animation, estimate_animation, fit_to_video

        settings = fit_to_video(settings, () if settings.video else ("fps", "frames"))
        if settings.seed is None:
            settings = settings.model_copy(update={"seed": secrets.randbelow(2**32)})
        stem = file_stem(settings.prompt, settings.seed or 0)
        project = Project.create_lazily(self.folder / stem, {"settings": settings.model_dump(mode="json")})
        try:
            job = create_animation(settings, project)
            expected = estimate_animation(job)
            project.check_free_space(expected.bytes)
        except BaseException:
            project.discard_if_empty()  # of a wish that could not be met nothing is left behind
            raise
        self.note.value = html.escape(str(expected))
        if self.start_picture is not None and settings.init_image == str(self.start_picture):
            clear_start_picture(self.folder)
        return job

    def step_context(self, job: Any) -> AbstractContextManager[None]:
        """The lock of the project's folder: no other process writes frames there meanwhile."""
        context: AbstractContextManager[None] = job.project.locked()
        return context

    def finish(self, job: Any) -> str:
        from vqtools.animation.project import export_animation_video
        from vqtools.media.video import video_widget

        if not job.done:
            return "no frame is finished yet"
        with job.project.locked():
            self.film = export_animation_video(job.project, job.settings).path
        self._show_video(video_widget(self.film))
        return f"saved as {self.film}"

    def _show_video(self, shown: Any) -> None:
        self.video.outputs = ()
        self.video.append_display_data(shown)

    def _show_audio(self, settings: AnimateSettings) -> None:
        """The waveform, and the curves that formulas can use, from the sound's file."""
        from vqtools.animation.audio import analyse_audio, plot_audio

        sound = analyse_audio(settings.audio, settings.fps)
        data = io.BytesIO()
        plot_audio(settings.audio, sound).save(data, "PNG")
        self.waveform.value, self.waveform.layout.display = data.getvalue(), ""
        self.curves.audio_curves = sound.curves
        self.curves.show(settings)

    def _draw(self, name: str, text: str) -> None:
        """A curve that was changed by hand stands in its field."""
        self.form.set(**{name: text})
        self._changed(name)

    def _follow(self, name: str) -> None:
        if name == "motion":
            self.form.set(**{**IDENTITY_MOTION, **MOTION_PRESETS[self.form.values()["motion"]]})
        values = self.form.values()
        if name in {"motion", "frames", "size", "seed", "interpolation", *CURVE_FIELDS} and not (
            AnimateSettings.problems(values)
        ):
            self.curves.show(AnimateSettings.parse(values))

    def _changed(self, name: str) -> None:
        def act() -> None:
            self._follow(name)
            job: Any = self.runner.job
            idle = self.runner.state == "idle"
            if job is None and idle:
                return
            if not self._is_live(name) or not _accepts_change(job, name):
                if not idle:
                    self.form.note(name, "from the next run")
            elif not idle and job is not None:
                changes = self._with_curves(name)
                self.form.note(name, "from the next frame on")
                self.runner.queue_action(self._steer_action(changes))
            else:
                self._held.add(name)
                self.form.note(name, "when it goes on")

        self.runner.guard(act)(None)

    def _is_live(self, name: str) -> bool:
        return name not in _NEXT_RUN_FIELDS and next(o.live for o in AnimateSettings.options() if o.name == name)

    def _with_curves(self, name: str) -> dict[str, Any]:
        """A field as it stands in the form; the motion with its curves."""
        values = self.form.values()
        return {one: values[one] for one in ((name, *IDENTITY_MOTION) if name == "motion" else (name,))}

    def _steer_action(self, changes: dict[str, Any]) -> Callable[[Any], str]:
        def act(job: Any) -> str:
            job.steer(changes)
            what = ", ".join(name.replace("_", " ") for name in changes)
            return f"{what} changed from {'the next picture' if job.settings.octave_zoom else f'frame {job.done}'} on"

        return act

    def before_resume(self, job: Any) -> None:
        """Give a job that goes on what was changed in the form while it was at rest."""
        changes: dict[str, Any] = {}
        for name in sorted(self._held):
            changes |= self._with_curves(name)
        with job.project.locked():
            if changes := {name: value for name, value in changes.items() if _accepts_change(job, name)}:
                job.steer(changes)
                self.form.clear_notes()
        self._held.clear()

    def after_run(self, job: Any) -> None:
        """Leave no folder in which there is nothing; a film of one's own is laid there again with the next job."""
        if job.settings.video and job.position:
            return
        if job.project.discard_if_empty() and not job.position:
            self.runner.discard_job()

    def plan(self) -> Callable[[], Job]:
        self._held = set()
        return super().plan()


def _accepts_change(job: Any, name: str) -> bool:
    """Whether a job, or the one that comes where there is none, takes another value of a setting."""
    return job is None or not job.settings.octave_zoom or name in OCTAVE_ZOOM_LIVE_FIELDS
