"""Videos of existing pictures: what `vqtools.morph`, `vqtools.fly` and their commands call.

Resolves names of networks and puts networks, renderers and folders together. Knows nothing about how a frame is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vqtools.animation.flight import Flight
from vqtools.animation.frame_renderer import FrameRenderer
from vqtools.animation.morph import Morph
from vqtools.animation.project import Project
from vqtools.animation.settings import FlySettings, MorphSettings, VideoSettings
from vqtools.core.device import choose_machine
from vqtools.core.errors import UserError
from vqtools.core.job import finish
from vqtools.core.settings import check_size
from vqtools.media.image import load_picture
from vqtools.media.video import WrittenVideo, list_frames, write_video
from vqtools.weights.load import load_vqgan

SETTINGS_BY_ACTIVITY: dict[str, type[VideoSettings]] = {"morph": MorphSettings, "fly": FlySettings}


def create_project(
    activity: str, pictures: Sequence[str | Path], settings: VideoSettings, out: str | Path | None
) -> Project:
    """Create a folder for a video of these pictures, named after the first unless ``out`` is given."""
    for path in pictures:
        if not Path(path).is_file():
            raise UserError(f"picture {str(path)!r} is not there")
    if activity == "morph" and len(pictures) < 2:
        raise UserError("a morph needs two or more pictures")
    record = {
        "activity": activity,
        "pictures": [str(Path(path).absolute()) for path in pictures],
        "settings": settings.model_dump(mode="json"),
    }
    return Project.create(out or f"{Path(pictures[0]).stem}-{activity}", record)


def create_renderer(project: Project) -> FrameRenderer:
    """The job that renders a folder's missing frames."""
    activity = project.record.get("activity")
    if activity not in SETTINGS_BY_ACTIVITY:
        raise UserError(
            f"folder {str(project.folder)!r} holds no morph and no flight; continue it with vqtools animate"
        )
    settings: Any = SETTINGS_BY_ACTIVITY[activity].parse(project.record["settings"])
    pictures = [load_picture(path) for path in project.record["pictures"]]
    if activity == "fly":
        return FrameRenderer(settings, project, Flight(pictures[0], settings))
    vqgan = load_vqgan(settings.vqgan)
    check_size(settings.size, vqgan.f)
    return FrameRenderer(settings, project, Morph(pictures, vqgan.to(choose_machine().device), settings))


def export_frames_video(job: FrameRenderer) -> WrittenVideo:
    """Write the video of the frames that exist into their folder."""
    settings, folder = job.settings, job.project.folder
    return write_video(
        list_frames(job.project.frames),
        folder / f"{folder.resolve().name}.{settings.format}",
        fps=settings.fps,
        crf=settings.crf,
        audio=settings.audio or None,
        closed=isinstance(settings, MorphSettings) and settings.loop,
    )


def morph(pictures: Sequence[str | Path], *, out: str | Path | None = None, **fields: Any) -> Path:
    """Make a video in which pictures turn into one another through the VQGAN's latent space; returns its path.

    Every field of MorphSettings is a keyword.
    """
    return _render_video("morph", pictures, MorphSettings.parse(fields).quick(), out)


def fly(picture: str | Path, *, out: str | Path | None = None, **fields: Any) -> Path:
    """Make a video of a flight over one large picture; returns its path. Every field of FlySettings is a keyword."""
    return _render_video("fly", [picture], FlySettings.parse(fields).quick(), out)


def _render_video(
    activity: str, pictures: Sequence[str | Path], settings: VideoSettings, out: str | Path | None
) -> Path:
    project = create_project(activity, pictures, settings, out)
    with project.locked():
        return export_frames_video(finish(create_renderer(project))).path
