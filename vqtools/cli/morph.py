"""The commands `vqtools morph` and `vqtools fly`: videos of pictures that exist already.

Knows flags, folders and messages; `pipelines.morph` does the work. Imports nothing heavy before it is called.
"""

from __future__ import annotations

import time
from typing import Any

import click

from vqtools.cli.options import STOPPED, SettingsCommand, debug_option, fields_from_flags
from vqtools.cli.output import echo_status
from vqtools.core.errors import UserError
from vqtools.core.settings import Settings


def _morph_settings() -> type[Settings]:
    from vqtools.animation.settings import MorphSettings

    return MorphSettings


def _fly_settings() -> type[Settings]:
    from vqtools.animation.settings import FlySettings

    return FlySettings


_out_option = click.option("--out", metavar="FOLDER", help="Folder to create [default: named after the first picture].")
_resume_option = click.option("--resume", metavar="FOLDER", help="Continue in an existing folder.")


@click.command(cls=SettingsCommand, settings=_morph_settings, argument="")
@click.argument("pictures", nargs=-1)
@_out_option
@_resume_option
@debug_option
def morph(pictures: tuple[str, ...], out: str | None, resume: str | None, **flags: Any) -> int:
    """Make a video that morphs PICTURES into one another, by interpolating the VQGAN's latents.

    \b
    vqtools morph castle.png forest.png sea.png --frames 120 --loop
    """
    return _render_video("morph", pictures, out, resume, flags)


@click.command(cls=SettingsCommand, settings=_fly_settings, argument="")
@click.argument("picture", nargs=-1)
@_out_option
@_resume_option
@debug_option
def fly(picture: tuple[str, ...], out: str | None, resume: str | None, **flags: Any) -> int:
    """Make a video of a camera that moves over one large PICTURE; frames are cropped and resampled, not painted.

    \b
    vqtools fly panorama.png --size 640x360 --zoom "0:(2), 120:(5)" --x "0:(0.1), 120:(0.9)" --frames 121
    """
    if len(picture) > 1:
        raise UserError(f"fly takes one picture, not {len(picture)}; for several: vqtools morph")
    return _render_video("fly", picture, out, resume, flags)


def _render_video(
    activity: str, pictures: tuple[str, ...], out: str | None, resume: str | None, flags: dict[str, Any]
) -> int:
    """Render the frames in a new folder or in the one to resume, then the video of those that exist."""
    from vqtools.animation.project import Project
    from vqtools.core.job import run_job
    from vqtools.pipelines.morph import SETTINGS_BY_ACTIVITY, create_project, create_renderer, export_frames_video

    fields = fields_from_flags(flags)
    if resume is not None:
        if pictures or fields or out:
            raise UserError("--resume continues with the folder's own settings; omit everything else")
        project = Project.open(resume)
    elif not pictures:
        raise UserError(f"there is no picture; name one: vqtools {activity} picture.png")
    else:
        settings: Any = SETTINGS_BY_ACTIVITY[activity].parse(fields).quick()
        project = create_project(activity, pictures, settings, out)
    started = time.monotonic()
    with project.locked():
        job = create_renderer(project)
        finished = run_job(job, label="rendering")
        if not job.done:
            raise KeyboardInterrupt
        video = export_frames_video(job)
    seconds = time.monotonic() - started
    click.echo(f"{video.path} ({video.frames} frames, {video.size[0]}x{video.size[1]}, {seconds:.0f} s)")
    if finished:
        return 0
    echo_status(f"stopped; continue with: vqtools {activity} --resume {project.folder}")
    return STOPPED
