"""The command `vqtools presets`: what each preset means on this machine. Knows flags and messages; measures nothing."""

from __future__ import annotations

import click

from vqtools.cli.options import debug_option
from vqtools.cli.output import echo_status


@click.command()
@click.option(
    "--vqgan", metavar="NAME", default="starter", show_default=True, help="VQGAN for which to measure the step time."
)
@click.option(
    "--clip", metavar="NAME", default="starter", show_default=True, help="CLIP for which to measure the step time."
)
@click.option("--again", is_flag=True, help="Measure again, even if there is a stored result.")
@debug_option
def presets(vqgan: str, clip: str, again: bool) -> None:
    """Show what draft, normal, better and best mean on this machine: time and size, from a benchmark of ten seconds."""
    from vqtools.painting.settings import PaintSettings
    from vqtools.pipelines.presets import cache_file, measure_presets

    settings = PaintSettings.parse({"vqgan": vqgan, "clip": clip})
    step_time, sizes = measure_presets(settings, again=again, notify=echo_status)
    click.echo(step_time.describe())
    for preset in sizes.values():
        click.echo(f"  {preset.describe()}")
    click.echo(f"stored in {cache_file()}; measure again with: vqtools presets --again")
