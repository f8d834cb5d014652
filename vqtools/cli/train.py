"""The commands that train.

Know flags and words; the work itself is the workshop's.
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
@click.option("--resume", is_flag=True, help="Go on with the run of that name, with the settings it began with.")
@debug_option
def train_vqgan(folder: str | None, resume: bool, **flags: Any) -> int:
    """Train a VQGAN on the pictures in FOLDER (or a zip, or tar shards).

    What is left open is chosen by what the folder holds, and said. The run lies in a folder of the model's name.

    \b
    vqtools train-vqgan holiday-pictures --name my-holidays
    vqtools train-vqgan --resume --name my-holidays
    vqtools paint "a harbour" --vqgan my-holidays
    """
    from vqtools.pipelines import train_vqgan as train_vqgan_module
    from vqtools.pipelines.vqgan_advice import suggest_vqgan_settings
    from vqtools.training.settings import TrainVQGANSettings

    settings = _parse_settings(TrainVQGANSettings, suggest_vqgan_settings, "train-vqgan", folder, resume, flags)
    return _run_training(lambda: train_vqgan_module.train_vqgan(settings, resume=resume))


def _transformer_settings() -> type[Settings]:
    from vqtools.training.settings import TrainTransformerSettings

    return TrainTransformerSettings


@click.command("train-transformer", cls=SettingsCommand, settings=_transformer_settings, argument="folder")
@click.argument("folder", required=False)
@click.option("--resume", is_flag=True, help="Go on with the run of that name, with the settings it began with.")
@debug_option
def train_transformer(folder: str | None, resume: bool, **flags: Any) -> int:
    """Train a transformer on the codes that a VQGAN makes of the pictures in FOLDER (or a zip, or tar shards).

    What is left open is chosen by what the folder holds, and said. The run lies in a folder of the model's name.

    \b
    vqtools train-transformer --vqgan my-holidays holiday-pictures --name my-coast
    vqtools train-transformer --resume --name my-coast
    vqtools sample --transformer my-coast --vqgan my-holidays --size 768x256
    """
    from vqtools.pipelines import train_transformer as workshop
    from vqtools.pipelines.transformer_advice import suggest_transformer_settings
    from vqtools.training.settings import TrainTransformerSettings

    settings = _parse_settings(
        TrainTransformerSettings, suggest_transformer_settings, "train-transformer", folder, resume, flags
    )
    return _run_training(lambda: workshop.train_transformer(settings, resume=resume, say=_echo_progress))


def _echo_progress(line: str) -> None:
    """A line that the next one writes over, for people only."""
    if sys.stderr.isatty():
        click.echo(f"\r{line}", err=True, nl=False)


def _parse_settings(
    kind: type[S], suggest: Callable[[dict[str, Any]], tuple[S, list[str]]], command: str, folder: str | None,
    resume: bool, flags: dict[str, Any],
) -> S:  # fmt: skip
    """What was asked for, and what the folder suggests for the rest, which is said."""
    fields = fields_from_flags(flags) | ({"folder": folder} if folder else {})
    if resume:
        if others := sorted(set(fields) - {"name", "folder"}):
            raise UserError(f"a resumed run keeps its settings; leave {', '.join(others)} away")
        return kind.parse(fields)
    if not folder:
        raise UserError(f"there is no folder of pictures; say which: vqtools {command} FOLDER")
    settings, reasons = suggest(fields)
    for reason in reasons if os.environ.get("RANK", "0") == "0" else ():
        click.echo(reason, err=True)
    return settings


def _run_training(make: Callable[[], Any]) -> int:
    """Make a training, and drive it to its end or to Ctrl-C."""
    from vqtools.core.job import run_job

    started = time.monotonic()
    job = make()
    any_process = job.team.any_process  # one Ctrl-C stops all processes, after the same step
    if not job.first:  # one process talks, all of them work
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
        click.echo(f"stopped after {job.position} of {job.total} steps; go on with --resume --name {job.settings.name}")
        return STOPPED
    click.echo(f"{job.model} ({numbers}, {time.monotonic() - started:.0f} s)")
    return 0
