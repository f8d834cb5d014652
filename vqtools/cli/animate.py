"""The command `vqtools animate`: frames and a video, in a new folder or in one that is continued.

Knows flags, folders and messages; `pipelines.animate` does the work. Imports nothing heavy before it is called.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vqtools.cli.options import STOPPED, SettingsCommand, debug_option, fields_from_flags, join_prompt
from vqtools.cli.output import echo_status
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
@click.option("--out", metavar="FOLDER", help="Folder to create [default: named after prompt and seed].")
@click.option("--resume", metavar="FOLDER", help="Continue in an existing folder; other flags apply from here on.")
@click.option(
    "--rewind",
    metavar="NUMBER",
    type=click.IntRange(0),
    default=0,
    help="With --resume: first delete this many of the last frames.",
)
@click.option("--dry-run", is_flag=True, help="Only preview the motion on a test card, in seconds.")
@click.option(
    "--apart", is_flag=True, help="Render the scenes between ^ separately; accelerate launch distributes them."
)
@debug_option
def animate(
    prompt: tuple[str, ...], out: str | None, resume: str | None, rewind: int, dry_run: bool, apart: bool, **flags: Any
) -> int:
    """Make frames and a video of PROMPT: zooms, camera moves, loops, or a restyled video.

    --cadence interpolates frames between painted ones; --out-fps adds frames to the video. To enlarge the frames,
    use vqtools upscale.

    \b
    vqtools animate "a castle ^ a green forest ^ the blue sea" --octave-zoom --zoom 1.04
    vqtools animate "a forest" --motion tunnel --frames 120 --dry-run
    vqtools animate --prompts-at '{"0": "a forest", "60": "a city"}' --zoom "0:(1.02), 60:(1.0+0.05*sin(t/9))"
    vqtools animate --resume a-forest-42 --rewind 30 --angle 2
    vqtools animate --resume zoom-7 --rewind 24 "the deep sea"
    accelerate launch -m vqtools animate "a forest ^ a sea ^ a city" --apart --seed 1 --out journey
    """
    text = join_prompt(prompt, "animate")
    fields = fields_from_flags(flags) | ({} if text is None else {"prompt": text})
    if apart:
        if resume or rewind or dry_run:
            raise UserError(
                "--apart excludes --resume, --rewind and --dry-run; run it again with the same --out to continue"
            )
        return _animate_distributed(fields, out)
    return _animate(fields, out=out, resume=resume, rewind=rewind, dry_run=dry_run)


def _animate(fields: Mapping[str, Any], *, out: str | None, resume: str | None, rewind: int, dry_run: bool) -> int:
    """Animate in one process; returns the exit code."""
    from vqtools.animation.project import Project

    if resume is not None and out is not None:
        raise UserError("--resume continues in its own folder; omit --out")
    if resume is None and rewind:
        raise UserError("--rewind needs a folder made before: vqtools animate --resume FOLDER --rewind 30")
    if resume is None and not ({"prompt", "prompts_at"} & set(fields)):
        raise UserError('there is no prompt; say what to show: vqtools animate "a forest"')
    stored = Project.open(resume) if resume is not None else None
    if dry_run:
        return _dry_run(_parse_settings(fields, stored), out, stored)
    with stored.locked() if stored is not None else contextlib.nullcontext():
        settings = _parse_settings(fields, stored, rewind)
        if stored is not None and rewind and not settings.octave_zoom:
            echo_status(f"{stored.rewind(rewind)} frames are left")
        return _render_video(settings, stored or _new_project(settings, out), rewind)


def _parse_settings(fields: Mapping[str, Any], stored: Project | None, rewind: int = 0) -> AnimateSettings:
    """Settings from flags, on top of those of the folder that is continued; with a seed."""
    from vqtools.pipelines.animate import change_settings, new_settings

    return new_settings(fields) if stored is None else change_settings(stored, fields, rewind=bool(rewind))


def _new_project(settings: AnimateSettings, out: str | None) -> Project:
    """A project in --out or in a folder named after the prompt; the folder is made with its first frame."""
    from vqtools.animation.project import Project
    from vqtools.core.paths import file_stem

    if out is not None and (not out.strip() or "\0" in out or Path(out).is_file()):
        raise UserError(f"--out {shorten(out)} cannot be a folder; omit it to name the folder after the prompt")
    name = out or file_stem(settings.prompt, settings.known_seed)
    return Project.create_lazily(name, {"settings": settings.model_dump(mode="json")})


def _animate_distributed(fields: Mapping[str, Any], out: str | None) -> int:
    """Render scenes apart, distributed over the processes that accelerate started; the first one writes the video."""
    from vqtools.animation.settings import AnimateSettings
    from vqtools.core.distributed import init_distributed
    from vqtools.core.job import run_job
    from vqtools.media.video import write_video
    from vqtools.pipelines.distribute import distribute_scenes, split_scenes

    settings = AnimateSettings.parse(fields).quick()
    if settings.seed is None or not out:
        raise UserError("--apart needs --seed and --out, so that every process makes scenes of the same animation")
    split_scenes(settings)
    distributed = init_distributed(None)
    try:
        folder = Path(out)
        frames = distribute_scenes(settings, folder, distributed, run=lambda job: run_job(job, label="animating"))
        if distributed.rank:
            return 0
        if frames is None:
            echo_status(f"scenes are missing in {out!r}; run the same command again to continue")
            return STOPPED
        target = folder / f"{folder.resolve().name}.{settings.format}"
        video = write_video(
            frames, target, fps=settings.fps, out_fps=settings.out_fps, between=settings.between,
            sides=settings.odd_sides, crf=settings.crf, audio=settings.audio or None,
        )  # fmt: skip
        click.echo(f"{video.path} ({video.frames} frames, {video.size[0]}x{video.size[1]})")
        return 0
    finally:
        distributed.close()


def _render_video(settings: AnimateSettings, project: Project, rewind: int) -> int:
    """Render frames until the end or Ctrl-C, then the video of those that exist."""
    from vqtools.animation.project import export_animation_video
    from vqtools.core.job import run_job

    started = time.monotonic()
    job = _create_job(settings, project, rewind)
    continue_with = f"continue with: vqtools animate --resume {project.folder}"
    with project.locked():
        finished = run_job(job, label="animating")
        if not job.done:
            echo_status(f"stopped before the first frame; {continue_with}")
            return STOPPED
        video = export_animation_video(project, settings)
    if any(video.padding):
        echo_status(f"note: the video is {video.size[0]}x{video.size[1]}, because its format needs even sides")
    seconds = time.monotonic() - started
    click.echo(f"{video.path} ({video.frames} frames, {settings.size[0]}x{settings.size[1]}, {seconds:.0f} s)")
    if finished:
        return 0
    echo_status(f"stopped after {job.done} of {settings.frames} frames; {continue_with}")
    return STOPPED


def _create_job(settings: AnimateSettings, project: Project, rewind: int) -> Any:
    """The animation's job, after printing what it will cost; a folder without frames is removed if that fails."""
    from vqtools.core.device import recorded_threads
    from vqtools.pipelines.animate import create_animation, estimate_animation, rewind_animation

    try:
        job = create_animation(settings, project, threads=recorded_threads(project.record))
        if rewind and settings.octave_zoom:
            echo_status(rewind_animation(job, rewind))
        if job.position < job.total:
            estimate = estimate_animation(job)
            existing = f"; {job.done} are there" if job.done else ""
            echo_status(f"{estimate}{existing}; Ctrl-C stops and keeps what is made")
            project.check_free_space(estimate.bytes)
    except BaseException:  # Ctrl-C too, pressed because the estimate is too long
        project.discard_if_empty()
        raise
    return job


def _dry_run(settings: AnimateSettings, out: str | None, stored: Project | None) -> int:
    """Write a video of the motion on a test card."""
    from vqtools.animation.test_card import write_test_card_video
    from vqtools.core.files import check_writable
    from vqtools.core.paths import file_stem

    folder = stored.folder if stored else Path(out) if out else Path()
    target = folder / f"{file_stem(settings.prompt, settings.known_seed)}-dry-run.{settings.format}"
    check_writable(folder)
    video = write_test_card_video(settings, target)
    click.echo(f"{video.path} ({video.frames} frames of a test card)")
    return 0
