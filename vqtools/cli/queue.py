"""The commands `vqtools queue`, `vqtools presets` and `vqtools upscale`: what is left alone, measured, enlarged.

Knows flags, files and words. Imports nothing heavy before it is called.
"""

from __future__ import annotations

from typing import Any

import click

from vqtools.cli.options import STOPPED, debug_option
from vqtools.cli.output import echo_status
from vqtools.core.errors import UserError


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
    from vqtools.pipelines.queue import Queue
    from vqtools.pipelines.queue_report import summarise, table_rows

    line = Queue(
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
