"""TODO: what this module is.

Split from vqtools.cli_queue.
"""

from __future__ import annotations

from pathlib import Path

import click

from vqtools.cli.options import debug_option


@click.command()
@click.argument("picture")
@click.option("--model", metavar="FILE", required=True, help="The upscaler: .safetensors, or .pth with weights alone.")
@click.option("--tile", type=click.IntRange(32, 8192), default=512, show_default=True, help="Pixels at a time.")
@click.option("--out", metavar="PATH", help="File or folder to write to [default: PICTURE-xN.png].")
@debug_option
def upscale(picture: str, model: str, tile: int, out: str | None) -> int:
    """Enlarge PICTURE by an upscaler of yours (ESRGAN, SwinIR, DAT and others that spandrel knows).

    \b
    pip install "vqtools[upscale]"
    vqtools upscale castle.png --model RealESRGAN_x4plus.pth
    """
    from vqtools.cli.output import parse_out_path
    from vqtools.core.files import check_writable
    from vqtools.core.job import run_job
    from vqtools.media.png_record import save_png
    from vqtools.pipelines.upscale import UpscaleJob

    folder, name = parse_out_path(out)
    check_writable(folder)
    job = UpscaleJob.of(picture, model, tile=tile)
    if not run_job(job, label="enlarging"):
        raise KeyboardInterrupt
    path = save_png(folder / (name or f"{Path(picture).stem}-x{job.scale}.png"), job.picture(), job.record())
    width, height = job.picture().size
    click.echo(f"{path} ({width}x{height})")
    return 0
