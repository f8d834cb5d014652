"""The panel of notebook 05: a motion seen before it is paid for, frames as they arrive, a video at the end.

Knows which settings, job and folder belong together; nothing about how a frame is made.
"""

from __future__ import annotations

import html
import secrets
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from vqtools.animation.settings import AnimateSettings
from vqtools.jobs import Job
from vqtools.media import file_stem
from vqtools.ui.panels import Panel


class AnimatePanel(Panel):
    """Prompts and a motion, frames on disk, a video at the end; what it will take is said before the first frame."""

    verb = "Animate"
    hint = "Say what you want to see, choose a motion, and press Animate."

    def __init__(
        self, settings: AnimateSettings | None = None, *, folder: str | Path = "animations", **options: Any
    ) -> None:
        self.film: Path | None = None  # the last video
        self.note = widgets.HTML()
        self.note.add_class("vqtools-note")
        self.video = widgets.Output()
        super().__init__(settings or AnimateSettings(), folder=folder, **options)
        self.view.children = (*self.view.children, self.note, self.video)

    async def run(self) -> Path | None:
        """Do what Animate does, in this cell: the video's file, also of the frames that were made before a stop."""
        job = await self.runner.run()
        return self.film if job is not None and job.position else None

    def _job(self, settings: AnimateSettings) -> Job:
        from vqtools import filming
        from vqtools.animation.project import Project

        if settings.seed is None:
            settings = settings.model_copy(update={"seed": secrets.randbelow(2**32)})
        stem = file_stem(settings.prompt, settings.seed or 0)
        project = Project.create(self.folder / stem, {"settings": settings.model_dump(mode="json")})
        job = filming.animation(settings, project)
        self.note.value = html.escape(str(filming.estimate(job)))
        return job

    def _save(self, job: Any) -> str:
        from IPython.display import Video

        from vqtools.animation.project import film

        if not job.done:
            return f"no frame was finished; {job.project.folder} can be gone on with by vqtools animate --resume"
        self.film = film(job.project, job.settings).path
        self.video.outputs = ()
        self.video.append_display_data(Video(str(self.film), embed=True))  # type: ignore[no-untyped-call]
        return f"saved as {self.film}"


def test_card(settings: AnimateSettings) -> Any:
    """The motion alone on a test card, as a video for a cell's output; seconds, and no network."""
    import tempfile

    from IPython.display import Video

    from vqtools.animation.forecast import film_test_card

    with tempfile.TemporaryDirectory() as folder:
        made = film_test_card(settings.quick(), Path(folder) / f"card.{settings.format}")
        return Video(data=made.path.read_bytes(), embed=True, mimetype="video/mp4")  # type: ignore[no-untyped-call]
