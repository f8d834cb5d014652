"""The panels of the notebooks: what it makes on the left, what you may change on the right, what you do below.

Knows which settings, job and folder belong together; nothing about how a picture is painted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import ipywidgets as widgets

from vqtools.core.errors import UserError
from vqtools.core.files import check_writable
from vqtools.core.job import Job
from vqtools.core.paths import file_stem
from vqtools.core.settings import Settings, quick_requested
from vqtools.media.image import load_picture
from vqtools.media.png_record import read_record, save_png
from vqtools.ui.form import Form
from vqtools.ui.job_runner import RunHooks, Runner

if TYPE_CHECKING:
    from PIL.Image import Image

STYLE_SHEET = Path(__file__).with_name("panel.css")


class PictureJob(Job, Protocol):
    """A job that makes a picture: `studio.painting(settings)` and `drawing.drawing(settings)` make one."""

    settings: Any

    def picture(self) -> Image: ...

    def record(self) -> dict[str, Any]: ...


class Panel(RunHooks):
    """Settings, the job they make, and what comes of it. Display it; press the first button, or `await panel.run()`.

    The job lives here and not in the page: displayed again, or after the page was loaded anew, the panel shows the
    same run; a panel that is made anew for the same folder, as by running its cell again, takes it over. What it makes
    is saved in `folder`.
    """

    verb = "Start"
    top_field = "prompt"  # the field that stands above, as wide as the page
    hint = ""
    resumable = False  # whether a job that has ended can go on
    _open: ClassVar[dict[tuple[type, Path], Panel]] = {}
    suggestions: ClassVar[dict[str, tuple[str, ...]]] = {
        "vqgan": ("starter",), "clip": ("starter",), "transformer": ("starter", "none"),
    }  # fmt: skip

    def __init__(
        self, settings: Settings, *, folder: str | Path = "pictures", make: Callable[..., Any] | None = None
    ) -> None:
        self.folder = Path(folder)
        self._make: Callable[..., Any] = make or self._create_job
        self.runner = self._adopted_runner() or Runner(self, verb=self.verb, resumable=self.resumable)
        job: Any = self.runner.job
        if self.runner.state != "idle" and job is not None:
            settings = job.settings
        self.form: Form[Any] = Form(settings, apart=(self.top_field,), suggestions=self.suggestions)
        self.form.on_change = self._changed
        page = widgets.HBox([self.runner.view, self.form.body])
        page.add_class("vqtools-page")
        quick = widgets.HTML("Quick run: VQTOOLS_QUICK=1 keeps sizes and steps small." if quick_requested() else "")
        quick.layout.display = "" if quick.value else "none"
        style = widgets.HTML(f"<style>{STYLE_SHEET.read_text('utf-8')}</style>", layout=widgets.Layout(display="none"))
        self.view = widgets.VBox([style, self.form.row(self.top_field), page, self.runner.buttons, quick])
        self.view.add_class("vqtools-panel")
        if self.runner.job is None and self.runner.state == "idle":
            self.runner.set_status(self.hint)

    def _adopted_runner(self) -> Runner | None:
        """The runner of the panel that was open for this folder before, with its job."""
        previous = Panel._open.get((type(self), self.folder.absolute()))
        if previous is None:
            return None
        previous.runner.recreate_widgets()
        return previous.runner

    def _attach(self) -> None:
        """Take the runner over; the last thing that the constructor of a panel does.

        Until then a run that was adopted is served by the panel before, whose widgets are complete.
        """
        Panel._open[type(self), self.folder.absolute()] = self
        self.runner.attach(self)

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.view)  # type: ignore[no-untyped-call]

    def _create_job(self, settings: Any) -> Job:
        """Make the job of these settings, in the worker's thread."""
        raise NotImplementedError

    def _changed(self, name: str) -> None:
        def act() -> None:
            self._follow(name)
            if self.runner.state != "idle":
                self.form.note(name, "from the next run")

        self.runner.guard(act)(None)

    def _follow(self, name: str) -> None:
        """Change what hangs on a field that a person has changed."""

    def plan(self) -> Callable[[], Job]:
        """Check the form; return the function that makes its job."""
        self.form.clear_notes()
        settings = self.form.settings().quick()
        check_writable(self.folder)
        return self._mark_failing_field(lambda: self._make(settings))

    def _mark_failing_field(self, make: Callable[[], Job]) -> Callable[[], Job]:
        """The same, which marks the field that keeps it from being made."""

        def noted() -> Job:
            try:
                return make()
            except UserError as error:  # what only the networks could know, such as a size they can't paint
                for word in str(error).split()[:2]:  # "width 101 is …", "no clip is …"
                    name = "size" if word in ("width", "height") else word
                    if name in self.form.values():
                        self.form.note(name, str(error), wrong=True)
                raise

        return noted


class PicturePanel(Panel):
    """A panel whose job makes a picture, saved with its settings inside and never over another."""

    saved: Path | None = None  # the file of the last picture

    def __init__(self, settings: Settings, **options: Any) -> None:
        super().__init__(settings, **options)
        if self.runner.job is None:
            self._show_last_picture()

    async def run(self) -> Image | None:
        """Do what the button does, in this cell: the picture, also if it was stopped; None before anything was made."""
        job = await self.runner.run()
        return job.picture() if job is not None and job.position else None  # type: ignore[attr-defined]

    def finish(self, job: Any) -> str:
        """Save the picture with its settings inside."""
        name = file_stem(job.settings.prompt or "sample", job.settings.seed) + ".png"
        self.saved = save_png(self.folder / name, job.picture(), job.record())
        return f"saved as {self.saved}"

    def _show_last_picture(self) -> None:
        """The empty state: the last picture made here, if there is one, and one sentence."""
        made = sorted(self.folder.glob("*.png"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in made[:3]:  # a file from elsewhere may lie among them
            try:
                prompt = read_record(path)["settings"]["prompt"]
                self.runner.show_picture(load_picture(path))
            except (UserError, KeyError, TypeError):
                continue
            self.runner.set_status(f"Made before: {prompt or path.stem}. {self.hint}")
            return
