"""The command `vqtools score`: how probable a picture is under a transformer.

Knows flags, files and messages; `pipelines.score` computes. Imports nothing heavy before it is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vqtools.cli.options import SettingsCommand, debug_option, fields_from_flags
from vqtools.cli.output import parse_out_path
from vqtools.core.settings import Settings


def _score_settings() -> type[Settings]:
    from vqtools.sampling.settings import ScoreSettings

    return ScoreSettings


@click.command(cls=SettingsCommand, settings=_score_settings)
@click.argument("picture")
@click.option("--out", metavar="PATH", help="File or folder for the heat map [default: PICTURE-surprise.png].")
@debug_option
def score(picture: str, out: str | None, **flags: Any) -> int:
    """Print the likelihood of PICTURE under a transformer, and write a heat map of nats per code."""
    from vqtools.core.files import check_writable
    from vqtools.core.job import run_job
    from vqtools.media.image import load_picture
    from vqtools.media.png_record import save_png
    from vqtools.pipelines.score import create_score_job
    from vqtools.sampling.settings import ScoreSettings

    folder, name = parse_out_path(out)
    check_writable(folder)
    settings = ScoreSettings.parse(fields_from_flags(flags))
    job = create_score_job(load_picture(picture), settings)
    if not run_job(job, label="scoring"):
        raise KeyboardInterrupt
    target = folder / (name or f"{Path(picture).stem}-surprise.png")
    record = {"activity": "score", "settings": settings.model_dump(mode="json"), "bits a code": job.bits}
    path = save_png(target, job.heat_map(), record)
    codes, nats = job.nats.numel(), float(job.nats.sum())
    click.echo(f"{job.bits:.2f} bits per code, perplexity {2**job.bits:.1f}; {codes} codes, ln p = {-nats:.0f}; {path}")
    return 0
