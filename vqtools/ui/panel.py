"""What the panels of the notebooks share: picture on the left, form on the right, buttons below.

Knows which settings, job and folder belong together; nothing about how a picture is painted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from vqtools.core.errors import UserError
from vqtools.core.files import check_writable
from vqtools.core.job import Job
from vqtools.core.settings import Settings
from vqtools.media.image import load_picture
from vqtools.media.png_record import read_record
from vqtools.ui.display import Displayed, page_row, panel_view, quick_note
from vqtools.ui.form import Form
from vqtools.ui.gallery import newest_pictures
from vqtools.ui.job_runner import RunHooks, Runner
from vqtools.ui.live_form import NEXT_RUN

if TYPE_CHECKING:
    from PIL.Image import Image

_PICTURES_TRIED = 3  # for the empty panel: the newest may come from another program


class Panel(Displayed, RunHooks):
    """Settings, the job they make, and its result. Display it and press the first button, or `await panel.run()`.

    The job lives in the kernel, not in the page: displayed again, or after the page was reloaded, the panel shows the
    same run. A new panel for the same folder, as after running its cell again, adopts the run. Results are saved in
    ``folder``.

    make: makes the job from settings, in place of the panel's own function.
    """

    verb = "Start"
    top_field = "prompt"  # the field at the top, as wide as the page
    hint = ""
    resumable = False  # whether a job that was stopped can be continued
    _open: ClassVar[dict[tuple[type, Path], Panel]] = {}
    suggestions: ClassVar[dict[str, tuple[str, ...]]] = {
        "vqgan": ("starter",),
        "clip": ("starter",),
        "transformer": ("starter", "none"),
    }

    def __init__(
        self, settings: Settings, *, folder: str | Path = "pictures", make: Callable[..., Any] | None = None
    ) -> None:
        self.folder = Path(folder)
        self.make_job: Callable[..., Any] = make or self._create_job
        self.runner = self._adopted_runner() or Runner(self, verb=self.verb, resumable=self.resumable)
        job: Any = self.runner.job
        if self.runner.state != "idle" and job is not None:
            settings = job.settings
        self.form: Form[Any] = Form(settings, apart=(self.top_field,), suggestions=self.suggestions)
        self.form.on_change = self._changed
        page = page_row(self.runner.view, self.form.body)
        self.view = panel_view([self.form.row(self.top_field), page, self.runner.buttons, quick_note()])
        if self.runner.job is None and self.runner.state == "idle":
            self.runner.set_status(self.hint)

    def plan(self) -> Callable[[], Job]:
        """Check the form; return the function that makes its job."""
        self.form.clear_notes()
        settings = self.form.settings().quick()
        check_writable(self.folder)
        return self._mark_failing_field(lambda: self.make_job(settings))

    def _adopted_runner(self) -> Runner | None:
        """The runner of the panel that was open for this folder before, with its job."""
        previous = Panel._open.get((type(self), self.folder.absolute()))
        if previous is None:
            return None
        previous.runner.recreate_widgets()
        return previous.runner

    def _attach(self) -> None:
        """Take the runner over; the last thing that a panel's constructor does.

        Until then, the panel before, whose widgets are complete, serves a run that is adopted.
        """
        Panel._open[type(self), self.folder.absolute()] = self
        self.runner.attach(self)

    def _create_job(self, settings: Any) -> Job:
        """Make the job of these settings, in the worker's thread."""
        raise NotImplementedError

    def _changed(self, name: str) -> None:
        """A person has changed a field."""
        if self.runner.state != "idle":
            self.form.note(name, NEXT_RUN)

    def _mark_failing_field(self, make: Callable[[], Job]) -> Callable[[], Job]:
        """The same function, which also marks the field that its UserError is about."""

        def make_and_mark() -> Job:
            try:
                return make()
            except UserError as error:  # what only the networks can check, such as a size
                for word in str(error).split()[:2]:  # "width 101 is …", "no clip is …"
                    name = "size" if word in ("width", "height") else word
                    if name in self.form.values():
                        self.form.note(name, str(error), wrong=True)
                raise

        return make_and_mark


class PicturePanel(Panel):
    """A panel whose job makes a picture, saved with its settings inside and never over another."""

    saved: Path | None = None  # the file of the last picture

    def __init__(self, settings: Settings, **options: Any) -> None:
        super().__init__(settings, **options)
        if self.runner.job is None:
            self._show_last_picture()

    async def run(self) -> Image | None:
        """Do what the first button does in this cell, until the run ends or is stopped.

        Returns the picture, or None if the run was stopped before its first step.
        """
        job: Any = await self.runner.run()
        return job.picture() if job is not None and job.position else None

    def finish(self, job: Any) -> str:
        """Save the picture with its record."""
        from vqtools.pipelines.paint import save_picture

        self.saved = save_picture(job, self.folder)
        return f"saved as {self.saved}"

    def _show_last_picture(self) -> None:
        """Show the last picture made here, if there is one."""
        for path in newest_pictures(self.folder)[:_PICTURES_TRIED]:
            try:
                prompt = read_record(path)["settings"]["prompt"]
                self.runner.show_picture(load_picture(path))
            except (UserError, KeyError, TypeError):
                continue
            self.runner.set_status(f"Made before: {prompt or path.stem}. {self.hint}")
            return
