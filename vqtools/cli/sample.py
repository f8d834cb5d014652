"""TODO: what this module is.

Split from vqtools.cli.
"""

from __future__ import annotations

import time
from typing import Any

import click

from vqtools.cli.options import STOPPED, SettingsCommand, debug_option, fields_from_flags
from vqtools.cli.output import parse_out_path, save_picture
from vqtools.core.errors import UserError
from vqtools.core.settings import Settings


def _sample_settings() -> type[Settings]:
    from vqtools.sampling.settings import SampleSettings

    return SampleSettings


@click.command(cls=SettingsCommand, settings=_sample_settings)
@click.argument("prompt", nargs=-1)
@click.option("--from", "source", metavar="PICTURE.png", help="Take all settings from a picture that sample made.")
@click.option("--trust-paths", is_flag=True, help="Read the files that the settings inside --from's picture name.")
@click.option("--out", metavar="PATH", help="File or folder to write to [default: named after prompt and seed].")
@click.option("--film", is_flag=True, help="Also a video of the window walking.")
@debug_option
def sample(
    prompt: tuple[str, ...], source: str | None, trust_paths: bool, out: str | None, film: bool, **flags: Any
) -> int:
    """Draw a picture of any size with a transformer, of PROMPT where it reads captions.

    \b
    vqtools sample --size 256x128 --seed 42
    vqtools sample --complete picture.png --keep upper
    vqtools sample --size 512x128 --seamless --stride 4
    """
    from vqtools.core.files import check_writable
    from vqtools.core.job import run_job
    from vqtools.core.paths import file_stem
    from vqtools.media.png_record import read_record
    from vqtools.painting.image_inputs import refuse_file_paths
    from vqtools.pipelines.sample import create_sample_job
    from vqtools.sampling.settings import SampleSettings

    if len(prompt) > 1:
        raise UserError(f'the prompt is one argument; put it in quotes: vqtools sample "{" ".join(prompt)}"')
    folder, name = parse_out_path(out)
    check_writable(folder)
    fields = fields_from_flags(flags) | ({"prompt": prompt[0]} if prompt else {})
    if source is not None:
        record = read_record(source)
        if record.get("activity") != "sample" or not isinstance(record.get("settings"), dict):
            raise UserError(f"{source} was not made by vqtools sample; leave --from away")
        if not trust_paths:
            refuse_file_paths({name: value for name, value in record["settings"].items() if name not in fields})
        fields = record["settings"] | fields
    started = time.monotonic()
    job = create_sample_job(SampleSettings.parse(fields).quick())
    width, height = job.settings.size
    click.echo(f"{width}x{height}, seed {job.settings.seed}, {job.machine.describe()}", err=True)
    target = folder / (name or file_stem(job.settings.prompt or "sample", job.settings.seed or 0) + ".png")
    if film:
        from vqtools.pipelines.timelapse import Timelapse

        with Timelapse(job) as filmed:
            finished = run_job(filmed, label="drawing")
            if job.position:
                click.echo(str(filmed.write(target.with_name(f"{target.stem}-window.mp4")).path))
    else:
        finished = run_job(job, label="drawing")
    if job.position == 0 and not finished:
        raise KeyboardInterrupt
    save_picture(job, target, started)
    if not finished:
        click.echo(f"stopped after {job.position} of {job.total} steps", err=True)
    return 0 if finished else STOPPED
