"""The panel of notebook 04: a prompt, the picture that forms, and the edits that are made meanwhile.

Knows which settings, session and folder belong together; nothing about how a picture is painted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqtools.core.errors import UserError
from vqtools.core.files import check_writable
from vqtools.core.job import Job, StepReport
from vqtools.painting.settings import PaintSettings
from vqtools.ui.animation_start import save_start_picture
from vqtools.ui.grid_runs import GridRuns
from vqtools.ui.paint_form import PaintForm
from vqtools.ui.paint_tools import PaintTools
from vqtools.ui.panel import PicturePanel
from vqtools.ui.uploads import save_upload

if TYPE_CHECKING:
    from PIL.Image import Image

    from vqtools.painting.session import PaintSession
    from vqtools.pipelines.grid import PaintGrid
    from vqtools.pipelines.variations import Halves


class PaintPanel(PicturePanel):
    """A prompt and the picture that forms under CLIP guidance, which can be edited meanwhile.

    Every button has a method of the panel, to be called from a cell; ``panel.session`` offers more. A PNG made by
    vqtools that is dropped on the panel restores its settings.
    """

    verb = "Paint"
    resumable = True
    hint = "Type a prompt and press Paint; the first picture takes a few seconds."
    _saved_state: tuple[Any, ...] = ()  # job, position and revision of the last file

    def __init__(self, settings: PaintSettings | None = None, **options: Any) -> None:
        super().__init__(settings or PaintSettings(), **options)
        self.live_form, self.grid_runs = PaintForm(self.form, self.runner), GridRuns(self)
        self.preset_sizes = self.live_form.preset_sizes
        self.tools = tools = PaintTools(self)
        self.history_bar, self.brush, self.canvas = tools.history_bar, tools.brush, tools.canvas
        self.grid_picker, self.grid_form = tools.grid_picker, tools.grid_form
        self.picture_import, self.gallery = tools.picture_import, tools.gallery
        self.picture_import.origin = self.runner.panel_state.get("origin", self.picture_import.origin)
        self.view.children = tools.arrange(self.view.children)
        self._attach()

    @property
    def session(self) -> PaintSession | None:
        """The painting of the present run, or of the last; None for a grid."""
        job: Any = self.runner.job
        return job if job is not None and job.supports_branching else None

    @property
    def last_grid(self) -> PaintGrid | None:
        """The last grid, of candidates or of several settings."""
        return self.grid_runs.last_grid

    # What the buttons do; each method can be called from a cell.

    def edit(self, **changes: Any) -> None:
        """Change settings from the next step on, in the form too."""
        self.live_form.change(**changes)

    def undo(self) -> None:
        """Go back to just before the last edit or stroke."""
        self.runner.queue_action(lambda session: self._restore(session, session.undo, "undone"))

    def redo(self) -> None:
        """Go forward again to where undo was called."""
        self.runner.queue_action(lambda session: self._restore(session, session.redo, "redone"))

    def branch(self, position: int) -> None:
        """Go back to a step of this run and continue from there with the settings in the form."""

        def act(session: PaintSession) -> str:
            session.branch(position)
            self.live_form.apply_pending(session)
            self.live_form.show_settings(session)
            return f"a new branch from step {position}"

        self.history_bar.show_present()
        self.runner.queue_action(act, resume=True)

    def save(self) -> None:
        """Save the picture as it is, also in the middle of a run."""
        self.runner.queue_action(self.finish)

    def candidates(self, count: int = 16) -> None:
        """Paint short runs of so many seeds as a grid; :meth:`pick` or :meth:`cross` continue from it."""
        self.grid_runs.candidates(count)

    drafts = candidates  # its name in 0.1

    def grid(self, vary: Mapping[str, list[Any]]) -> None:
        """Paint every combination of values as one grid: ``{"prompt": [...], "seed": [1, 2, 3]}``."""
        self.grid_runs.grid(vary)

    def pick(self, index: int) -> None:
        """Continue a painting of the grid, by its number from 0, with the settings in the form."""
        self.grid_runs.pick(index)

    def cross(self, first: int, second: int, halves: Halves = "left-right") -> None:
        """Start from one half of each of two paintings of the grid, by their numbers from 0."""
        self.grid_runs.cross(first, second, halves)

    def back_to_grid(self) -> None:
        """Show the last grid again, to choose another of its paintings."""
        self.grid_runs.show_grid()

    def bigger(self, factor: float = 1.5) -> None:
        """Continue from the picture as it is at ``factor`` times its size; the smaller one is saved."""
        session = self.session
        if session is None:
            raise UserError("there is no picture yet to enlarge; press Paint first")
        self.grid_runs.enlarge(session, factor)

    def animate(self) -> None:
        """Save the picture; notebook 05_animate then starts with it."""

        def act(session: PaintSession) -> str:
            self.finish(session)
            assert self.saved is not None
            save_start_picture(self.folder.parent / "animations", self.saved)
            return f"open 05_animate and run it: it starts with {self.saved}"

        self.runner.queue_action(act)

    def take(self, name: str, content: bytes) -> None:
        """Import a picture file that was dropped or uploaded; the settings inside are restored."""
        self.picture_import.take(name, content)

    def open(self, path: str | Path) -> None:
        """Restore the settings inside a PNG made by vqtools."""
        self.picture_import.open(Path(path))

    def use(self, field: str, path: Path) -> None:
        """Set a field to a picture file: init_image, style_image, or prompt, to which it is added."""
        self.live_form.use_picture(field, path)

    def add_words(self, name: str) -> None:
        """Add a building block to the prompt: words for a style, a medium, light, or what to avoid."""
        self.live_form.add_block(name)

    def add_picture_prompt(self, name: str, content: bytes) -> None:
        """Save an uploaded picture and add it to the prompt."""
        from vqtools.media.image import load_picture

        load_picture(content, name)  # raises UserError before anything is saved
        self.use("prompt", save_upload(self.folder / "inputs", name, content))

    def make_again(self, record: Mapping[str, Any]) -> None:
        """Repeat the run of a picture's record, with all its edits and strokes, up to where it was stopped."""
        from vqtools.pipelines.reproduce import initial_settings

        settings = initial_settings(record)
        self.picture_import.origin.check(settings)
        self.switch_to(lambda: self.make_job(settings, record=record, replay=True))

    # What the tools use.

    def checked_settings(self) -> PaintSettings:
        """The settings in the form, once they and the folder are checked. Raises UserError."""
        self.form.clear_notes()
        settings: PaintSettings = self.form.settings().quick()
        self.picture_import.origin.check(settings)
        check_writable(self.folder)
        return settings

    def switch_to(self, make: Callable[[], Job]) -> None:
        """Run the job that ``make()`` makes, after the run under way."""
        self._reset()
        self.runner.switch_to(self._mark_failing_field(make))

    def apply_stroke(self, act: Callable[[PaintSession], str], *, resume: bool = False) -> None:
        """Queue an edit by the brush; the form shows the settings that it changed."""

        def act_and_show(session: PaintSession) -> str:
            message = act(session)
            self.live_form.show_settings(session)
            return message

        self.runner.queue_action(act_and_show, resume=resume)

    # Hooks of the runner.

    def plan(self) -> Callable[[], Job]:
        """Check the form; return the function that makes its session."""
        make = super().plan()
        self.picture_import.origin.check(self.form.settings())
        self._reset()
        return make

    def finish(self, job: Any) -> str:
        """Save the picture, unless this very state of the job is saved already."""
        state = job, job.position, job.revision
        if state != self._saved_state or self.saved is None:
            super().finish(job)
            self._saved_state = state
            self.tools.refresh_gallery()
        return f"saved as {self.saved}"

    def preview(self, job: Any) -> Image | None:
        """The picture of the step that the history slider shows."""
        return self.history_bar.preview(job)

    def step_done(self, job: Any, report: StepReport) -> None:
        """Update losses and grid; stop a repeated run where the first one was stopped."""
        self.history_bar.step_done(report)
        if job.supports_branching and job.stop_at is not None and report.position >= job.stop_at:
            job.stop_at = None
            self.runner.stop()
        if report.image is not None:
            self.tools.refresh_grid_picker()

    def before_resume(self, job: Any) -> None:
        """Apply the changes that were made at rest."""
        self.live_form.apply_pending(job)

    def total_steps(self, job: Any) -> int:
        """Steps in all, with the iterations that the form shows."""
        return self.live_form.total_steps(job)

    def state_changed(self) -> None:
        """Enable the tools that can be used now."""
        self.runner.panel_state["origin"] = self.picture_import.origin
        self.tools.refresh(self.session)

    # Helpers.

    def _create_job(
        self, settings: PaintSettings, record: Mapping[str, Any] | None = None, replay: bool = False
    ) -> PaintSession:
        from vqtools.pipelines.paint import create_session  # loads torch: not before it is needed

        origin = self.picture_import.origin
        return create_session(settings, record=record or origin.record or None, trusted=origin.trusted, replay=replay)

    def _reset(self) -> None:
        self.live_form.pending.clear()
        self.tools.reset()

    def _restore(self, session: PaintSession, move: Callable[[], None], message: str) -> str:
        move()
        self.live_form.pending.clear()
        self.history_bar.show_present()
        self.live_form.show_settings(session)
        return message

    def _changed(self, name: str) -> None:
        viewing_past = self.history_bar.viewed_position is not None
        self.runner.guard(lambda: self.live_form.field_changed(name, viewing_past=viewing_past))(None)
