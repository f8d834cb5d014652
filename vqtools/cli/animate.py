"""The command that animates: a folder is made or gone on with, the cost is said, frames arrive, a video is written.

Knows flags, folders and words; the work itself is the studio's. Imports nothing heavy before it is called.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vqtools.cli.options import STOPPED, SettingsCommand, debug_option, fields_from_flags
from vqtools.core.errors import UserError, shorten
from vqtools.core.settings import Settings

if TYPE_CHECKING:
    from vqtools.animation.project import Project
    from vqtools.animation.settings import AnimateSettings


def _animate_settings() -> type[Settings]:
    from vqtools.animation.settings import AnimateSettings

    return AnimateSettings


@click.command(cls=SettingsCommand, settings=_animate_settings)
@click.argument("prompt", nargs=-1)
@click.option("--out", metavar="FOLDER", help="Folder to make [default: named after prompt and seed].")
@click.option("--resume", metavar="FOLDER", help="Go on in a folder made before; other flags count from here.")
@click.option("--rewind", metavar="NUMBER", type=click.IntRange(0), default=0, help="Throw so many last frames away.")
@click.option("--dry-run", is_flag=True, help="Only the motion, on a test card, in seconds.")
@click.option("--apart", is_flag=True, help="Each scene of ^ by itself: accelerate launch shares them.")
@debug_option
def animate(
    prompt: tuple[str, ...], out: str | None, resume: str | None, rewind: int, dry_run: bool, apart: bool, **flags: Any
) -> int:
    """Frames and a video of PROMPT: zooms, journeys, loops.

    \b
    vqtools animate "a castle ^ a green forest ^ the blue sea" --octave-zoom --zoom 1.04
    vqtools animate "a forest" --motion tunnel --frames 120 --dry-run
    vqtools animate --prompts-at '{"0": "a forest", "60": "a city"}' --zoom "0:(1.02), 60:(1.0+0.05*sin(t/9))"
    vqtools animate --resume a-forest-42 --rewind 30 --angle 2
    vqtools animate --resume zoom-7 --rewind 24 "the deep sea"
    accelerate launch -m vqtools animate "a forest ^ a sea ^ a city" --apart --seed 1 --out journey
    """
    if len(prompt) > 1:
        raise UserError(f'the prompt is one argument; put it in quotes: vqtools animate "{" ".join(prompt)}"')
    fields = fields_from_flags(flags)
    if prompt:
        fields["prompt"] = prompt[0]
    if apart:
        if resume or rewind or dry_run:
            raise UserError("--apart goes on by itself when it is said again with the same --out")
        return _animate_distributed(fields, out)
    return _animate(fields, out=out, resume=resume, rewind=rewind, dry_run=dry_run)


def _animate(fields: Mapping[str, Any], *, out: str | None, resume: str | None, rewind: int, dry_run: bool) -> int:
    """The command with its fields read from flags; returns the exit code."""
    from vqtools.animation.project import Project

    if resume is not None and out is not None:
        raise UserError("--resume and --out at once; --resume goes on in its own folder")
    if resume is None and rewind:
        raise UserError("--rewind is for a folder made before: vqtools animate --resume FOLDER --rewind 30")
    if resume is None and not ({"prompt", "prompts_at"} & set(fields)):
        raise UserError('there is no prompt; say what to show: vqtools animate "a forest"')
    stored = Project.open(resume) if resume is not None else None
    if dry_run:
        return _dry_run(_parse_settings(fields, stored), out, stored)
    with stored.locked() if stored is not None else contextlib.nullcontext():
        settings = _parse_settings(fields, stored, rewind)
        if stored is not None and rewind and not settings.octave_zoom:
            click.echo(f"{stored.rewind(rewind)} frames are left", err=True)
        return _render_video(settings, stored or _new_project(settings, out), rewind)


def _parse_settings(fields: Mapping[str, Any], stored: Project | None, rewind: int = 0) -> AnimateSettings:
    """The flags' settings, on top of a folder's; with a seed."""
    from vqtools.pipelines.animate import change_settings, new_settings

    return new_settings(fields) if stored is None else change_settings(stored, fields, rewind=bool(rewind))


def _new_project(settings: AnimateSettings, out: str | None) -> Project:
    from vqtools.animation.project import Project
    from vqtools.core.paths import file_stem

    if out is not None and (not out.strip() or "\0" in out or Path(out).is_file()):
        raise UserError(f"--out {shorten(out)} is no folder that can be made; without it the prompt gives the name")
    name = out or file_stem(settings.prompt, settings.seed or 0)
    return Project.create_lazily(name, {"settings": settings.model_dump(mode="json")})


def _animate_distributed(fields: Mapping[str, Any], out: str | None) -> int:
    """Scenes as films of their own, shared by the processes that accelerate started, cut together by the first."""
    from vqtools.animation.settings import AnimateSettings
    from vqtools.core.distributed import init_distributed
    from vqtools.core.job import run_job
    from vqtools.media.video import write_video
    from vqtools.pipelines.distribute import distribute_scenes, split_scenes

    settings = AnimateSettings.parse(fields).quick()
    if settings.seed is None or not out:
        raise UserError("--apart wants --seed and --out, so that every process makes scenes of the same film")
    split_scenes(settings)
    team = init_distributed(None)
    try:
        folder = Path(out)
        frames = distribute_scenes(settings, folder, team, run=lambda job: run_job(job, label="animating"))
        if team.rank:
            return 0
        if frames is None:
            click.echo(f"scenes are missing in {out!r}; say the same again to go on", err=True)
            return STOPPED
        target = folder / f"{folder.resolve().name}.{settings.format}"
        made = write_video(
            frames, target, fps=settings.fps, out_fps=settings.out_fps, between=settings.between,
            sides=settings.odd_sides, crf=settings.crf, audio=settings.audio or None,
        )  # fmt: skip
        click.echo(f"{made.path} ({made.frames} frames, {made.size[0]}x{made.size[1]})")
        return 0
    finally:
        team.close()


def _render_video(settings: AnimateSettings, project: Project, rewind: int) -> int:
    """Frames until the end or Ctrl-C, then the video of what is there."""
    from vqtools.animation.project import export_animation_video
    from vqtools.core.job import run_job
    from vqtools.pipelines.animate import create_animation, estimate_animation, rewind_animation

    started = time.monotonic()
    threads = project.record.get("threads")
    threads = threads if isinstance(threads, int) and 1 <= threads <= 1024 else None
    try:
        job = create_animation(settings, project, threads=threads)
        if rewind and settings.octave_zoom:
            click.echo(rewind_animation(job, rewind), err=True)
        if job.position < job.total:
            expected = estimate_animation(job)
            already = f"; {job.done} are there" if job.done else ""
            click.echo(f"{expected}{already}; Ctrl-C stops and keeps what is made", err=True)
            project.check_free_space(expected.bytes)
    except BaseException:  # Ctrl-C too: of what takes too long no folder is left behind
        project.discard_if_empty()
        raise
    with project.locked():
        finished = run_job(job, label="animating")
        way_on = f"vqtools animate --resume {project.folder}"
        if not job.done:
            click.echo(f"stopped before the first frame; go on with: {way_on}", err=True)
            return STOPPED
        made = export_animation_video(project, settings)
    if any(made.padding):
        click.echo(f"note: the video is {made.size[0]}x{made.size[1]}, as it wants even sides", err=True)
    seconds = time.monotonic() - started
    click.echo(f"{made.path} ({made.frames} frames, {settings.size[0]}x{settings.size[1]}, {seconds:.0f} s)")
    if finished:
        return 0
    click.echo(f"stopped after {job.done} of {settings.frames} frames; go on with: {way_on}", err=True)
    return STOPPED


def _dry_run(settings: AnimateSettings, out: str | None, stored: Project | None) -> int:
    from vqtools.animation.test_card import write_test_card_video
    from vqtools.core.files import check_writable
    from vqtools.core.paths import file_stem

    folder = stored.folder if stored else Path(out) if out else Path()
    target = folder / f"{file_stem(settings.prompt, settings.seed or 0)}-dry-run.{settings.format}"
    check_writable(folder)
    made = write_test_card_video(settings, target)
    click.echo(f"{made.path} ({made.frames} frames of a test card)")
    return 0
