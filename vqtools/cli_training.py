"""The commands that train.

Know flags and words; the work itself is the workshop's.
"""

from __future__ import annotations

import os
import time
from typing import Any

import click

from vqtools.flags import STOPPED, SettingsCommand, debug_option, given
from vqtools.settings import Settings, UserError


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
    from vqtools import jobs, workshop
    from vqtools.training.settings import TrainVQGANSettings

    fields = given(flags) | ({"folder": folder} if folder else {})
    if resume:
        if others := sorted(set(fields) - {"name", "folder"}):
            raise UserError(f"a resumed run keeps its settings; leave {', '.join(others)} away")
        settings = TrainVQGANSettings.parse(fields)
    elif not folder:
        raise UserError("there is no folder of pictures; say which: vqtools train-vqgan FOLDER")
    else:
        settings, reasons = workshop.suggest(fields)
        for reason in reasons if os.environ.get("RANK", "0") == "0" else ():
            click.echo(reason, err=True)
    started = time.monotonic()
    job = workshop.train_vqgan(settings, resume=resume)
    agree = job.stage1.team.agree  # one Ctrl-C stops all processes, after the same step
    if not job.first:  # one process talks, all of them work
        finished = jobs.run(job, agree=agree, progress=False)
        job.stage1.team.close()
        return 0 if finished else STOPPED
    click.echo(f"{job.run.folder}: {job.describe()}", err=True)
    finished = jobs.run(job, agree=agree, label="training")
    if job.position and not finished:
        job.save()
    job.stage1.team.close()
    for name, reason in sorted(job.pictures.broken.items()):
        click.echo(f"skipped {name}: {reason}", err=True)
    numbers = ", ".join(f"{name} {value:.4g}" for name, value in job.measured.items())
    if not finished:
        click.echo(f"stopped after {job.position} of {job.total} steps; go on with --resume --name {settings.name}")
        return STOPPED
    click.echo(f"{job.model} ({numbers}, {time.monotonic() - started:.0f} s)")
    return 0
