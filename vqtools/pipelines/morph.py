"""Films of pictures that are there already, put together: what `vqtools.morph`, `vqtools.fly` and their commands call.

Knows settings, folders and names of networks; how a frame comes about is the animation's.
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
from vqtools.core.settings import check_size
from vqtools.media.image import load_picture
from vqtools.media.video import WrittenVideo, list_frames, write_video
from vqtools.weights.load import load_vqgan

SETTINGS_BY_ACTIVITY: dict[str, type[VideoSettings]] = {"morph": MorphSettings, "fly": FlySettings}


def create_project(
    activity: str, pictures: Sequence[str | Path], settings: VideoSettings, out: str | Path | None
) -> Project:
    """A new folder for a film of these pictures, named after the first."""
    for path in pictures:
        if not Path(path).is_file():
            raise UserError(f"picture {str(path)!r} is not there")
    if activity == "morph" and len(pictures) < 2:
        raise UserError("one picture turns into nothing; name two or more")
    record = {
        "activity": activity,
        "pictures": [str(Path(path).absolute()) for path in pictures],
        "settings": settings.model_dump(mode="json"),
    }
    return Project.create(out or f"{Path(pictures[0]).stem}-{activity}", record)


def create_renderer(project: Project) -> FrameRenderer:
    """The frames of a folder as a job; those that it holds stay."""
    activity = project.record.get("activity")
    if activity not in SETTINGS_BY_ACTIVITY:
        raise UserError(f"folder {str(project.folder)!r} holds no morph and no flight; go on with vqtools animate")
    settings: Any = SETTINGS_BY_ACTIVITY[activity].parse(project.record["settings"])
    pictures = [load_picture(path) for path in project.record["pictures"]]
    if activity == "fly":
        return FrameRenderer(settings, project, Flight(pictures[0], settings))
    vqgan = load_vqgan(settings.vqgan)
    check_size(settings.size, vqgan.f)
    return FrameRenderer(settings, project, Morph(pictures, vqgan.to(choose_machine().device), settings))


def export_frames_video(job: FrameRenderer) -> WrittenVideo:
    """The video of the frames that are there, in their folder."""
    s, folder = job.settings, job.project.folder
    return write_video(
        list_frames(job.project.frames), folder / f"{folder.resolve().name}.{s.format}", fps=s.fps, crf=s.crf,
        audio=s.audio or None, closed=getattr(s, "loop", False),
    )  # fmt: skip


def morph(pictures: Sequence[str | Path], *, out: str | Path | None = None, **fields: Any) -> Path:
    """Pictures that turn into one another through the VQGAN's latents, as a video; returns its file.

    Every field of MorphSettings is a keyword.
    """
    return _render_video("morph", pictures, MorphSettings.parse(fields).quick(), out)


def fly(picture: str | Path, *, out: str | Path | None = None, **fields: Any) -> Path:
    """A flight over one large picture as a video; returns its file. Every field of FlySettings is a keyword."""
    return _render_video("fly", [picture], FlySettings.parse(fields).quick(), out)


def _render_video(
    activity: str, pictures: Sequence[str | Path], settings: VideoSettings, out: str | Path | None
) -> Path:
    project = create_project(activity, pictures, settings, out)
    with project.locked():
        job = create_renderer(project)
        while job.position < job.total:
            job.step()
        return export_frames_video(job).path
