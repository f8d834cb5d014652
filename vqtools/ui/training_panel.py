"""The panels of notebooks 01 and 02: pictures in, a VQGAN or a transformer out, and everything to watch in between.

Knows which settings, job and run belong together; nothing about how a network learns.
"""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import ipywidgets as widgets

from vqtools.core.errors import UserError
from vqtools.core.job import Job
from vqtools.core.settings import Settings, quick_requested
from vqtools.training.run_folder import RunFolder
from vqtools.ui.form import Form
from vqtools.ui.job_runner import Runner
from vqtools.ui.panel import STYLE_SHEET
from vqtools.ui.plots import curve_svg

if TYPE_CHECKING:
    from PIL.Image import Image


S = TypeVar("S", bound=Settings)


class TrainingPanel(Generic[S]):
    """A folder of pictures, and what learns from it. Display it; press Train, or `await panel.run()`.

    What `settings` leaves open is chosen by what the folder holds, and stands in the form. A run that was stopped, or
    whose kernel died, goes on where its last state was saved when Train is pressed again. Each kind of training says
    what it suggests, how it is made, which curves it draws and what it shows beside them.
    """

    plotted_columns: tuple[str, ...] = ()
    suggestions: ClassVar[dict[str, tuple[str, ...]]] = {}
    about: tuple[str, ...] = ("folder", "name")  # what stays when another folder is chosen

    def suggest(self, given: dict[str, Any]) -> tuple[S, list[str]]:
        raise NotImplementedError

    def make(self, settings: S, resume: bool) -> Any:
        """The training as a job."""
        raise NotImplementedError

    def side_picture(self, job: Any) -> Image | None:
        """A picture to stand beside the curves."""

    def ready(self, job: Any) -> str:
        """What to do with the finished model."""
        raise NotImplementedError

    def __init__(self, settings: S, *, where: str | Path = ".") -> None:
        self.where = Path(where)
        self.runner = Runner(self._plan, finish=self._finish, report=self._show_curves, verb="Train")
        self.explanation = widgets.HTML()
        self.explanation.add_class("vqtools-note")
        self.curves = widgets.HTML()
        self.curves.add_class("vqtools-curves")
        self.codebook = widgets.Image(format="png", layout=widgets.Layout(width="256px", visibility="hidden"))
        problem = None
        try:
            settings, why = self.suggest(settings.model_dump(exclude_unset=True))
            self._explain(why)
        except UserError as error:
            problem = error
        self.form = Form(settings, apart=("folder",), suggestions=self.suggestions)
        self.form.on_change = self._changed
        page = widgets.HBox([self.runner.view, self.form.body])
        page.add_class("vqtools-page")
        style = widgets.HTML(f"<style>{STYLE_SHEET.read_text('utf-8')}</style>", layout=widgets.Layout(display="none"))
        watched = widgets.HBox([self.codebook, self.curves])
        watched.add_class("vqtools-watched")
        self.view = widgets.VBox([style, self.form.row("folder"), self.explanation, page, self.runner.buttons, watched])
        self.view.add_class("vqtools-panel")
        self.runner.set_status("Press Train to begin. Stop keeps everything: Train then goes on from there.")
        if problem:
            self.runner.show_error(problem)

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.view)  # type: ignore[no-untyped-call]

    @property
    def unfinished(self) -> bool:
        """Whether the run of the form's name is still to be made, or to be ended."""
        run = RunFolder(self.where / str(self.form.values()["name"]))
        return not run.finished

    async def run(self) -> Path | None:
        """Do what Train does, in this cell: the finished model's file, or None if it was stopped."""
        job: Any = await self.runner.run()
        return job.model if job is not None else None

    def _plan(self) -> Callable[[], Job]:
        self.form.clear_notes()
        settings: Any = self.form.settings().quick()
        run = RunFolder(self.where / settings.name)
        resume = run.exists and not run.finished

        def make() -> Job:
            made = self.make(settings, resume)
            job: Job = made
            if resume:
                self.form.load(made.settings)
                self.runner.set_status(
                    f"Going on with {settings.name} at step {job.position}, with the settings it began with"
                )
            return job

        return make

    def _finish(self, job: Any) -> str:
        self._show_curves(job)
        self._show_side_picture(job)
        if job.position < job.total:
            job.save()
            return f"saved in {job.run.folder}; Train goes on from here"
        skipped = f" · skipped {len(job.pictures.broken)} broken pictures" if job.pictures.broken else ""
        return f"{self.ready(job)}{skipped}"

    def _show_curves(self, job: Any, report: Any = None) -> None:
        """The log as curves; called after every step that is shown, cheap where nothing new was logged."""
        _, rows = job.run.read_log()
        drawn = [
            curve_svg(name, [(float(row["step"]), float(row[name])) for row in rows if row.get(name)])
            for name in self.plotted_columns
        ]
        value = "".join(drawn)
        if value != self.curves.value:
            self.curves.value = value
            self._show_side_picture(job)

    def _show_side_picture(self, job: Any) -> None:
        if (picture := self.side_picture(job)) is None:
            return
        data = io.BytesIO()
        picture.save(data, "PNG")
        self.codebook.value = data.getvalue()
        self.codebook.layout.visibility = "visible"

    def _explain(self, sentences: Iterable[str]) -> None:
        self.explanation.value = html.escape("; ".join(sentences) + ".")
        if quick_requested():
            self.explanation.value += " Quick run: VQTOOLS_QUICK=1 keeps sizes and steps small."

    def _changed(self, name: str) -> None:
        def act() -> None:
            if name == "folder":
                settings, why = self.suggest({name: self.form.values()[name] for name in self.about})
                self.form.load(settings)
                self._explain(why)
            if self.runner.state != "idle":
                self.form.note(name, "from the next run")

        self.runner.guard(act)(None)
