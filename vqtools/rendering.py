"""Films of pictures that are there already, put together: what `vqtools.morph`, `vqtools.fly` and their commands call.

Knows settings, folders and names of networks; how a frame comes about is the animation's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vqtools import media, networks
from vqtools.animation import video
from vqtools.animation.project import Project
from vqtools.animation.still_settings import FilmSettings, FlySettings, MorphSettings
from vqtools.animation.stills import Flight, Frames, Morph
from vqtools.device import choose
from vqtools.settings import UserError, check_size

KINDS: dict[str, type[FilmSettings]] = {"morph": MorphSettings, "fly": FlySettings}


def begin(activity: str, pictures: Sequence[str | Path], settings: FilmSettings, out: str | Path | None) -> Project:
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


def rendering(project: Project) -> Frames:
    """The frames of a folder as a job; those that it holds stay."""
    activity = project.record.get("activity")
    if activity not in KINDS:
        raise UserError(f"folder {str(project.folder)!r} holds no morph and no flight; go on with vqtools animate")
    settings: Any = KINDS[activity].parse(project.record["settings"])
    pictures = [media.load_picture(path) for path in project.record["pictures"]]
    if activity == "fly":
        return Frames(settings, project, Flight(pictures[0], settings))
    vqgan = networks.load_vqgan(settings.vqgan)
    check_size(settings.size, vqgan.f)
    return Frames(settings, project, Morph(pictures, vqgan.to(choose().device), settings))


def film(job: Frames) -> video.Made:
    """The video of the frames that are there, in their folder."""
    s, folder = job.settings, job.project.folder
    return video.write(
        video.frames_in(job.project.frames), folder / f"{folder.resolve().name}.{s.format}", fps=s.fps, crf=s.crf,
        audio=s.audio or None, closed=getattr(s, "loop", False),
    )  # fmt: skip


def morph(pictures: Sequence[str | Path], *, out: str | Path | None = None, **fields: Any) -> Path:
    """Pictures that turn into one another through the VQGAN's latents, as a video; returns its file.

    Every field of MorphSettings is a keyword.
    """
    return _made("morph", pictures, MorphSettings.parse(fields).quick(), out)


def fly(picture: str | Path, *, out: str | Path | None = None, **fields: Any) -> Path:
    """A flight over one large picture as a video; returns its file. Every field of FlySettings is a keyword."""
    return _made("fly", [picture], FlySettings.parse(fields).quick(), out)


def _made(activity: str, pictures: Sequence[str | Path], settings: FilmSettings, out: str | Path | None) -> Path:
    project = begin(activity, pictures, settings, out)
    with project.alone():
        job = rendering(project)
        while job.position < job.total:
            job.step()
        return film(job).path
