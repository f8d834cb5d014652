"""The commands `vqtools queue`, `vqtools presets` and `vqtools upscale`: what is left alone, measured, enlarged.

Knows flags, files and words. Imports nothing heavy before it is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vqtools.flags import STOPPED, debug_option
from vqtools.settings import UserError


@click.command()
@click.argument("folder")
@click.option("--set", "changes", metavar="SETTING=VALUE", multiple=True, help="For every picture instead of its own.")
@click.option("--out", metavar="FOLDER", help="For the pictures and the report [default: done, inside FOLDER].")
@click.option("--trust-paths", is_flag=True, help="Read the files that the settings name.")
@click.option("--report", is_flag=True, help="Only say what was done so far.")
@debug_option
def queue(folder: str, changes: tuple[str, ...], out: str | None, trust_paths: bool, report: bool) -> int:
    """Work through the settings files and PNGs in FOLDER, overnight.

    \b
    A settings file is JSON or YAML: settings by name, or a list of such; times: 4 paints it from four seeds. A PNG of
    vqtools is made again. Files that come in meanwhile are taken too. What was stopped or killed goes on where it was.

    \b
    vqtools queue tonight
    vqtools queue tonight --set iterations=400 --set size=384x384
    vqtools queue tonight --report
    """
    from vqtools import queueing
    from vqtools.queueing import summarise, table_rows

    line = queueing.Queue(
        folder, out=out, trusted=trust_paths, changes=dict(_parse_change(one) for one in changes), say=echo_status
    )
    finished = True if report else line.run()
    told = line.all()
    for row in table_rows(told):
        click.echo("  ".join(cell for cell in row if cell))
    click.echo(f"{summarise(told)}; {line.out / 'report.md'}" if told else f"there is nothing to do in {folder}")
    if not finished:
        click.echo(f"stopped; go on with: vqtools queue {folder}", err=True)
    return 0 if finished else STOPPED


def _parse_change(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise UserError(f"--set {text!r}: write a setting and its value, as in --set iterations=400")
    return name.strip().replace("-", "_"), value.strip()


def echo_status(line: str) -> None:
    click.echo(line, err=True)


@click.command()
@click.option("--vqgan", metavar="NAME", default="starter", show_default=True, help="With which VQGAN.")
@click.option("--clip", metavar="NAME", default="starter", show_default=True, help="With which CLIP.")
@click.option("--again", is_flag=True, help="Measure, though it is known.")
@debug_option
def presets(vqgan: str, clip: str, again: bool) -> None:
    """What draft, normal, better and best mean on this machine: time and size, from a trial of ten seconds."""
    from vqtools.painting.settings import PaintSettings
    from vqtools.presets import cache_file, measure_presets

    wanted = PaintSettings.parse({"vqgan": vqgan, "clip": clip})
    speed, found = measure_presets(wanted, again=again, say=echo_status)
    click.echo(speed.describe())
    for one in found.values():
        size = f"{one.size[0]}x{one.size[1]}"
        click.echo(f"  {one.name:8} {size:10} {one.iterations:4} steps, {one.cutouts:3} cutouts, {one.seconds:4.0f} s")
    click.echo(f"remembered in {cache_file()}; measure again: vqtools presets --again")


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
    from vqtools.cli_paint import parse_out_path
    from vqtools.jobs import run_job
    from vqtools.media import check_writable, save_png
    from vqtools.upscaling import UpscaleJob

    folder, name = parse_out_path(out)
    check_writable(folder)
    job = UpscaleJob.of(picture, model, tile=tile)
    if not run_job(job, label="enlarging"):
        raise KeyboardInterrupt
    path = save_png(folder / (name or f"{Path(picture).stem}-x{job.scale}.png"), job.picture(), job.record())
    width, height = job.picture().size
    click.echo(f"{path} ({width}x{height})")
    return 0
