"""The panels of the notebooks: what it makes on the left, what you may change on the right, what you do below.

Knows which settings, job and folder belong together; nothing about how a picture is painted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import ipywidgets as widgets

from vqtools.jobs import Job
from vqtools.media import check_writable, file_stem, load_picture, read_record, save_png
from vqtools.painting.settings import PRESETS, PaintSettings
from vqtools.settings import UserError, quick_requested
from vqtools.ui.form import Form
from vqtools.ui.runner import Runner

if TYPE_CHECKING:
    from PIL.Image import Image

STYLE = Path(__file__).with_name("panel.css")


class PaintingJob(Job, Protocol):
    """A job that paints: `studio.painting(settings)` makes one."""

    settings: PaintSettings

    def picture(self) -> Image: ...

    def record(self) -> dict[str, Any]: ...


class PaintPanel:
    """A prompt, and the picture it becomes. Display it; press Paint, or `await panel.run()`.

    Every picture is saved in `folder` with its settings inside. The job lives here and not in the page: displayed
    again, or after the page was loaded anew, the panel shows the same run.
    """

    def __init__(
        self,
        settings: PaintSettings | None = None,
        *,
        folder: str | Path = "pictures",
        make: Callable[[PaintSettings], PaintingJob] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.saved: Path | None = None  # the file of the last picture
        self._make = make or _painting
        self.runner = Runner(self._plan, finish=self._save, verb="Paint")
        starter = ("starter",)
        self.form = Form(
            settings or PaintSettings(),
            apart=("prompt",),
            suggestions={"vqgan": starter, "clip": starter, "transformer": (*starter, "none")},
        )
        self.form.on_change = self._changed
        page = widgets.HBox([self.runner.view, self.form.body])
        page.add_class("vqtools-page")
        quick = widgets.HTML("Quick run: VQTOOLS_QUICK=1 keeps sizes and steps small." if quick_requested() else "")
        quick.layout.display = "" if quick.value else "none"
        self.view = widgets.VBox(
            [
                widgets.HTML(f"<style>{STYLE.read_text('utf-8')}</style>", layout=widgets.Layout(display="none")),
                self.form.row("prompt"),
                page,
                self.runner.buttons,
                quick,
            ]
        )
        self.view.add_class("vqtools-panel")
        self._recall()

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.view)  # type: ignore[no-untyped-call]

    async def run(self) -> Image | None:
        """Do what Paint does, in this cell: the picture, also if it was stopped; None if that was before it began."""
        job = await self.runner.run()
        return job.picture() if job is not None and job.position else None  # type: ignore[attr-defined]

    def _plan(self) -> Callable[[], Job]:
        self.form.forget_notes()
        settings = self.form.settings().quick()
        check_writable(self.folder)

        def make() -> Job:
            try:
                return self._make(settings)
            except UserError as error:  # what only the networks could know, such as a size they can't paint
                for word in str(error).split()[:2]:  # "width 101 is …", "no clip is …"
                    name = "size" if word in ("width", "height") else word
                    if name in self.form.values():
                        self.form.note(name, str(error), wrong=True)
                raise

        return make

    def _save(self, job: Any) -> str:
        name = file_stem(job.settings.prompt, job.settings.seed) + ".png"
        self.saved = save_png(self.folder / name, job.picture(), job.record())
        return f"saved as {self.saved}"

    def _changed(self, name: str) -> None:
        def act() -> None:
            if name == "preset":
                self.form.set(**PRESETS[self.form.values()["preset"]])
            if self.runner.state != "idle":
                self.form.note(name, "from the next run")

        self.runner.guarded(act)(None)

    def _recall(self) -> None:
        """The empty state: the last picture made here, if there is one, and one sentence."""
        self.runner.say("Say what you want to see and press Paint; the first picture takes some seconds.")
        made = sorted(self.folder.glob("*.png"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in made[:3]:  # a file from elsewhere may lie among them
            try:
                prompt = read_record(path)["settings"]["prompt"]
                self.runner.show(load_picture(path))
            except (UserError, KeyError, TypeError):
                continue
            self.runner.say(f"Made before: {prompt}. Say what you want to see and press Paint.")
            return


def _painting(settings: PaintSettings) -> PaintingJob:
    from vqtools import studio  # loads torch: not before it is needed

    return studio.painting(settings)
