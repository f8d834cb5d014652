"""The command `vqtools sample`: pictures from a transformer alone.

Knows flags, files and messages; `pipelines.sample` does the work. Imports nothing heavy before it is called.
"""

from __future__ import annotations

import time
from typing import Any

import click

from vqtools.cli.options import STOPPED, SettingsCommand, debug_option, fields_from_flags, join_prompt
from vqtools.cli.output import echo_status, parse_out_path, save_picture
from vqtools.core.settings import Settings


def _sample_settings() -> type[Settings]:
    from vqtools.sampling.settings import SampleSettings

    return SampleSettings


@click.command(cls=SettingsCommand, settings=_sample_settings)
@click.argument("prompt", nargs=-1)
@click.option("--from", "source", metavar="PICTURE.png", help="Take all settings from a picture that sample made.")
@click.option("--trust-paths", is_flag=True, help="With --from: read the files that the picture's settings name.")
@click.option("--out", metavar="PATH", help="File or folder to write to [default: named after prompt and seed].")
@click.option("--film", is_flag=True, help="Also write a video of the sliding window.")
@debug_option
def sample(
    prompt: tuple[str, ...], source: str | None, trust_paths: bool, out: str | None, film: bool, **flags: Any
) -> int:
    """Sample a picture of any size from a transformer; PROMPT is used if it was trained on captions.

    \b
    vqtools sample --size 256x128 --seed 42
    vqtools sample --complete picture.png --keep upper
    vqtools sample --size 512x128 --seamless --stride 4
    """
    from vqtools.core.files import check_writable
    from vqtools.core.job import run_job
    from vqtools.core.paths import file_stem
    from vqtools.pipelines.sample import create_sample_job
    from vqtools.sampling.settings import SampleSettings

    text = join_prompt(prompt, "sample")
    folder, name = parse_out_path(out)
    check_writable(folder)
    fields = fields_from_flags(flags) | ({} if text is None else {"prompt": text})
    if source is not None:
        from vqtools.media.png_record import read_record
        from vqtools.pipelines.reproduce import sample_fields_from_record

        fields = sample_fields_from_record(read_record(source), fields, trusted=trust_paths)
    started = time.monotonic()
    job = create_sample_job(SampleSettings.parse(fields).quick())
    width, height = job.settings.size
    echo_status(f"{width}x{height}, seed {job.settings.seed}, {job.machine.describe()}")
    target = folder / (name or file_stem(job.settings.prompt or "sample", job.settings.known_seed) + ".png")
    if film:
        from vqtools.pipelines.timelapse import Timelapse

        with Timelapse(job) as timelapse:
            finished = run_job(timelapse, label="drawing")
            if job.position:
                click.echo(str(timelapse.write(target.with_name(f"{target.stem}-window.mp4")).path))
    else:
        finished = run_job(job, label="drawing")
    if job.position == 0 and not finished:
        raise KeyboardInterrupt
    save_picture(job, target, started)
    if not finished:
        echo_status(f"stopped after {job.position} of {job.total} steps")
    return 0 if finished else STOPPED
