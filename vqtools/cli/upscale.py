"""The command `vqtools upscale`: enlarge a picture with the user's upscaling network.

Knows flags, files and messages; `pipelines.upscale` does the work. Imports nothing heavy before it is called.
"""

from __future__ import annotations

from pathlib import Path

import click

from vqtools.cli.options import debug_option
from vqtools.cli.output import parse_out_path


@click.command()
@click.argument("picture")
@click.option("--model", metavar="FILE", required=True, help="The upscaler: .safetensors, or .pth with weights only.")
@click.option("--tile", type=click.IntRange(32, 8192), default=512, show_default=True, help="Side of a tile in pixels.")
@click.option("--out", metavar="PATH", help="File or folder to write to [default: PICTURE-xN.png].")
@debug_option
def upscale(picture: str, model: str, tile: int, out: str | None) -> int:
    """Enlarge PICTURE with an upscaler (ESRGAN, SwinIR, DAT and others that spandrel supports).

    \b
    pip install "vqtools[upscale]"
    vqtools upscale castle.png --model RealESRGAN_x4plus.pth
    """
    from vqtools.core.files import check_writable
    from vqtools.core.job import run_job
    from vqtools.media.png_record import save_png
    from vqtools.pipelines.upscale import UpscaleJob

    folder, name = parse_out_path(out)
    check_writable(folder)
    job = UpscaleJob.from_files(picture, model, tile=tile)
    if not run_job(job, label="enlarging"):
        raise KeyboardInterrupt
    path = save_png(folder / (name or f"{Path(picture).stem}-x{job.scale}.png"), job.picture(), job.record())
    width, height = job.picture().size
    click.echo(f"{path} ({width}x{height})")
    return 0
