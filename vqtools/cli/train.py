"""The commands `vqtools train-vqgan` and `vqtools train-transformer`.

Knows flags and messages; `pipelines.train_vqgan` and `pipelines.train_transformer` do the work. Imports nothing heavy
before it is called.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import click

from vqtools.cli.options import STOPPED, SettingsCommand, debug_option, fields_from_flags
from vqtools.core.errors import UserError
from vqtools.core.settings import Settings

S = TypeVar("S", bound=Settings)


def _vqgan_settings() -> type[Settings]:
    from vqtools.training.settings import TrainVQGANSettings

    return TrainVQGANSettings


@click.command("train-vqgan", cls=SettingsCommand, settings=_vqgan_settings, argument="folder")
@click.argument("folder", required=False)
@click.option("--resume", is_flag=True, help="Continue the run of that name, with its own settings.")
@debug_option
def train_vqgan(folder: str | None, resume: bool, **flags: Any) -> int:
    """Train a VQGAN on the pictures in FOLDER (or a zip, or tar shards).

    Settings that you omit are chosen to fit the pictures, and printed. The run's folder has the model's name.

    \b
    vqtools train-vqgan holiday-pictures --name my-holidays
    vqtools train-vqgan --resume --name my-holidays
    vqtools paint "a harbour" --vqgan my-holidays
    """
    from vqtools.pipelines import train_vqgan as pipeline
    from vqtools.pipelines.vqgan_advice import suggest_vqgan_settings
    from vqtools.training.settings import TrainVQGANSettings

    settings = _parse_settings(TrainVQGANSettings, suggest_vqgan_settings, "train-vqgan", folder, resume, flags)
    return _run_training(lambda: pipeline.train_vqgan(settings, resume=resume))


def _transformer_settings() -> type[Settings]:
    from vqtools.training.settings import TrainTransformerSettings

    return TrainTransformerSettings


@click.command("train-transformer", cls=SettingsCommand, settings=_transformer_settings, argument="folder")
@click.argument("folder", required=False)
@click.option("--resume", is_flag=True, help="Continue the run of that name, with its own settings.")
@debug_option
def train_transformer(folder: str | None, resume: bool, **flags: Any) -> int:
    """Train a transformer on the VQGAN codes of the pictures in FOLDER (or a zip, or tar shards).

    Settings that you omit are chosen to fit the pictures, and printed. The run's folder has the model's name.

    \b
    vqtools train-transformer --vqgan my-holidays holiday-pictures --name my-coast
    vqtools train-transformer --resume --name my-coast
    vqtools sample --transformer my-coast --vqgan my-holidays --size 768x256
    """
    from vqtools.pipelines import train_transformer as pipeline
    from vqtools.pipelines.transformer_advice import suggest_transformer_settings
    from vqtools.training.settings import TrainTransformerSettings

    settings = _parse_settings(
        TrainTransformerSettings, suggest_transformer_settings, "train-transformer", folder, resume, flags
    )
    return _run_training(lambda: pipeline.train_transformer(settings, resume=resume, say=_echo_progress))


def _echo_progress(line: str) -> None:
    """Print a line that the next one overwrites, on a terminal only."""
    if sys.stderr.isatty():
        click.echo(f"\r{line}", err=True, nl=False)


def _parse_settings(
    settings_class: type[S],
    suggest: Callable[[dict[str, Any]], tuple[S, list[str]]],
    command: str,
    folder: str | None,
    resume: bool,
    flags: dict[str, Any],
) -> S:
    """Settings from flags; ``suggest`` chooses the others from the folder's pictures, and its reasons are printed."""
    fields = fields_from_flags(flags) | ({"folder": folder} if folder else {})
    if resume:
        if others := sorted(set(fields) - {"name", "folder"}):
            raise UserError(f"a resumed run keeps its settings; omit {', '.join(others)}")
        return settings_class.parse(fields)
    if not folder:
        raise UserError(f"there is no folder of pictures; name one: vqtools {command} FOLDER")
    settings, reasons = suggest(fields)
    for reason in reasons if os.environ.get("RANK", "0") == "0" else ():
        click.echo(reason, err=True)
    return settings


def _run_training(make_job: Callable[[], Any]) -> int:
    """Make a training job and run it until its end or Ctrl-C; returns the exit code."""
    from vqtools.core.job import run_job

    started = time.monotonic()
    job = make_job()
    any_process = job.team.any_process  # one Ctrl-C stops all processes, after the same step
    if not job.first:  # only the first process prints
        finished = run_job(job, any_process=any_process, progress=False)
        job.team.close()
        return 0 if finished else STOPPED
    click.echo(f"{job.run.folder}: {job.describe()}", err=True)
    finished = run_job(job, any_process=any_process, label="training")
    if job.position and not finished:
        job.save()
    job.team.close()
    for name, reason in sorted(job.pictures.broken.items()):
        click.echo(f"skipped {name}: {reason}", err=True)
    numbers = ", ".join(f"{name} {value:.4g}" for name, value in job.measured.items())
    if not finished:
        click.echo(
            f"stopped after {job.position} of {job.total} steps; continue with --resume --name {job.settings.name}"
        )
        return STOPPED
    click.echo(f"{job.model} ({numbers}, {time.monotonic() - started:.0f} s)")
    return 0
