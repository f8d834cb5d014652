"""What the panels of notebooks 01 and 02 share: a folder of pictures, settings that fit it, curves of the training.

Knows which settings, job and run folder belong together; nothing about how a network is trained.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import ipywidgets as widgets

from vqtools.core.errors import UserError
from vqtools.core.job import Job, StepReport
from vqtools.core.settings import Settings, quick_requested
from vqtools.training.run_folder import RunFolder
from vqtools.ui.display import QUICK_NOTE, Displayed, page_row, panel_view
from vqtools.ui.form import Form
from vqtools.ui.job_runner import RunHooks, Runner
from vqtools.ui.live_form import NEXT_RUN
from vqtools.ui.plots import curve_svg
from vqtools.ui.widget_bytes import png_bytes

if TYPE_CHECKING:
    from PIL.Image import Image


S = TypeVar("S", bound=Settings)


class TrainingPanel(Displayed, RunHooks, Generic[S]):
    """A folder of pictures and the model that is trained on it. Display it and press Train, or `await panel.run()`.

    What ``settings`` leave open is chosen to fit the folder, and shown in the form. A run that was stopped, or whose
    kernel died, continues from its last saved state when Train is pressed again. A subclass says what it suggests, how
    the job is made, which columns of the log it plots and which picture it shows beside them.

    where: the folder in which run folders are made.
    """

    plotted_columns: tuple[str, ...] = ()
    suggestions: ClassVar[dict[str, tuple[str, ...]]] = {}
    about: tuple[str, ...] = ("folder", "name")  # fields that stay when another folder is chosen

    def suggest(self, given: dict[str, Any]) -> tuple[S, list[str]]:
        """Settings that fit the folder in ``given``, which stand as they are, and the reasons as sentences."""
        raise NotImplementedError

    def make(self, settings: S, resume: bool) -> Any:
        """The training as a job; resume: from the last state in its run folder."""
        raise NotImplementedError

    def side_picture(self, job: Any) -> Image | None:
        """A picture to show beside the curves."""

    def ready(self, job: Any) -> str:
        """What to do with the finished model, as a sentence."""
        raise NotImplementedError

    def __init__(self, settings: S, *, where: str | Path = ".") -> None:
        self.where = Path(where)
        self.runner = Runner(self, verb="Train")
        self.explanation = widgets.HTML()
        self.explanation.add_class("vqtools-note")
        self.curves = widgets.HTML()
        self.curves.add_class("vqtools-curves")
        self.codebook = widgets.Image(format="png", layout=widgets.Layout(width="256px", visibility="hidden"))
        problem = None
        try:
            settings, reasons = self.suggest(settings.model_dump(exclude_unset=True))
            self._explain(reasons)
        except UserError as error:
            problem = error
        self.form = Form(settings, apart=("folder",), suggestions=self.suggestions)
        self.form.on_change = self._changed
        page = page_row(self.runner.view, self.form.body)
        plots = widgets.HBox([self.codebook, self.curves])
        plots.add_class("vqtools-watched")
        self.view = panel_view([self.form.row("folder"), self.explanation, page, self.runner.buttons, plots])
        self.runner.set_status("Press Train to begin. Stop saves everything; Train then continues from there.")
        if problem:
            self.runner.show_error(problem)

    @property
    def unfinished(self) -> bool:
        """Whether the run named in the form is still to be begun or finished."""
        run = RunFolder(self.where / str(self.form.values()["name"]))
        return not run.finished

    async def run(self) -> Path | None:
        """Do what Train does in this cell; returns the finished model's file, or None if the run was stopped."""
        job: Any = await self.runner.run()
        return job.model if job is not None else None

    def plan(self) -> Callable[[], Job]:
        """Check the form; return the function that makes its job, or resumes it."""
        self.form.clear_notes()
        settings: Any = self.form.settings().quick()
        run = RunFolder(self.where / settings.name)
        resume = run.exists and not run.finished

        def make() -> Job:
            trainer = self.make(settings, resume)
            job: Job = trainer
            if resume:
                self.form.load(trainer.settings)
                self.runner.set_status(f"Continuing {settings.name} at step {job.position}, with its own settings")
            return job

        return make

    def finish(self, job: Any) -> str:
        """Show the last curves and save the state of an unfinished run."""
        self._show_curves(job)
        self._show_side_picture(job)
        if job.position < job.total:
            job.save()
            return f"saved in {job.run.folder}; Train continues from here"
        skipped = f" · skipped {len(job.pictures.broken)} broken pictures" if job.pictures.broken else ""
        return f"{self.ready(job)}{skipped}"

    def step_done(self, job: Any, _report: StepReport) -> None:
        """Show what was logged."""
        self._show_curves(job)

    def _show_curves(self, job: Any) -> None:
        """Plot the log; cheap if nothing new was logged."""
        _, rows = job.run.read_log()
        curves = "".join(
            curve_svg(name, [(float(row["step"]), float(row[name])) for row in rows if row.get(name)])
            for name in self.plotted_columns
        )
        if curves != self.curves.value:
            self.curves.value = curves
            self._show_side_picture(job)

    def _show_side_picture(self, job: Any) -> None:
        if (picture := self.side_picture(job)) is not None:
            self.codebook.value = png_bytes(picture)
            self.codebook.layout.visibility = "visible"

    def _explain(self, reasons: Iterable[str]) -> None:
        self.explanation.value = html.escape("; ".join(reasons) + ".")
        if quick_requested():
            self.explanation.value += f" {QUICK_NOTE}"

    def _changed(self, name: str) -> None:
        def act() -> None:
            if name == "folder":
                settings, reasons = self.suggest({field: self.form.values()[field] for field in self.about})
                self.form.load(settings)
                self._explain(reasons)
            if self.runner.state != "idle":
                self.form.note(name, NEXT_RUN)

        self.runner.guard(act)(None)
