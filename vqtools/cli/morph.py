"""The commands `vqtools morph` and `vqtools fly`: films of pictures that are there already.

Knows flags, folders and words. Imports nothing heavy before it is called.
"""

from __future__ import annotations

import time
from typing import Any

import click

from vqtools.cli.options import STOPPED, SettingsCommand, debug_option, fields_from_flags
from vqtools.core.errors import UserError
from vqtools.core.settings import Settings


def _morph_settings() -> type[Settings]:
    from vqtools.animation.settings import MorphSettings

    return MorphSettings


def _fly_settings() -> type[Settings]:
    from vqtools.animation.settings import FlySettings

    return FlySettings


_out_option = click.option("--out", metavar="FOLDER", help="Folder to make [default: named after the first picture].")
_resume_option = click.option("--resume", metavar="FOLDER", help="Go on in a folder that was begun.")


@click.command(cls=SettingsCommand, settings=_morph_settings, argument="")
@click.argument("pictures", nargs=-1)
@_out_option
@_resume_option
@debug_option
def morph(pictures: tuple[str, ...], out: str | None, resume: str | None, **flags: Any) -> int:
    """A video in which PICTURES turn into one another, through the VQGAN's latents.

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
    """A flight over one large PICTURE, cut and resampled, nothing painted.

    \b
    vqtools fly panorama.png --size 640x360 --zoom "0:(2), 120:(5)" --x "0:(0.1), 120:(0.9)" --frames 121
    """
    if len(picture) > 1:
        raise UserError(f"a flight goes over one picture, not {len(picture)}; for several: vqtools morph")
    return _render_video("fly", picture, out, resume, flags)


def _render_video(
    activity: str, pictures: tuple[str, ...], out: str | None, resume: str | None, flags: dict[str, Any]
) -> int:
    from vqtools.animation.project import Project
    from vqtools.core.job import run_job
    from vqtools.pipelines.morph import SETTINGS_BY_ACTIVITY, create_project, create_renderer, export_frames_video

    fields = fields_from_flags(flags)
    if resume is not None:
        if pictures or fields or out:
            raise UserError("--resume goes on as the folder was begun; leave everything else away")
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
        made = export_frames_video(job)
    seconds = time.monotonic() - started
    click.echo(f"{made.path} ({made.frames} frames, {made.size[0]}x{made.size[1]}, {seconds:.0f} s)")
    if finished:
        return 0
    click.echo(f"stopped; go on with: vqtools {activity} --resume {project.folder}", err=True)
    return STOPPED
