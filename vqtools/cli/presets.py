"""TODO: what this module is.

Split from vqtools.cli_queue.
"""

from __future__ import annotations

import click

from vqtools.cli.options import debug_option
from vqtools.cli.output import echo_status


@click.command()
@click.option("--vqgan", metavar="NAME", default="starter", show_default=True, help="With which VQGAN.")
@click.option("--clip", metavar="NAME", default="starter", show_default=True, help="With which CLIP.")
@click.option("--again", is_flag=True, help="Measure, though it is known.")
@debug_option
def presets(vqgan: str, clip: str, again: bool) -> None:
    """What draft, normal, better and best mean on this machine: time and size, from a trial of ten seconds."""
    from vqtools.painting.settings import PaintSettings
    from vqtools.pipelines.presets import cache_file, measure_presets

    wanted = PaintSettings.parse({"vqgan": vqgan, "clip": clip})
    speed, found = measure_presets(wanted, again=again, say=echo_status)
    click.echo(speed.describe())
    for one in found.values():
        size = f"{one.size[0]}x{one.size[1]}"
        click.echo(f"  {one.name:8} {size:10} {one.iterations:4} steps, {one.cutouts:3} cutouts, {one.seconds:4.0f} s")
    click.echo(f"remembered in {cache_file()}; measure again: vqtools presets --again")
