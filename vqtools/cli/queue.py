"""The command `vqtools queue`: a folder of settings files and PNGs, painted unattended.

Knows flags, files and messages; `pipelines.queue` does the work. Imports nothing heavy before it is called.
"""

from __future__ import annotations

from typing import Any

import click

from vqtools.cli.options import STOPPED, debug_option, field_name
from vqtools.cli.output import echo_status
from vqtools.core.errors import UserError


@click.command()
@click.argument("folder")
@click.option("--set", "changes", metavar="SETTING=VALUE", multiple=True, help="Override a setting of every picture.")
@click.option("--out", metavar="FOLDER", help="Folder for the pictures and the report [default: done, inside FOLDER].")
@click.option("--trust-paths", is_flag=True, help="Read the files that the settings name.")
@click.option("--report", is_flag=True, help="Only print which pictures are finished so far.")
@debug_option
def queue(folder: str, changes: tuple[str, ...], out: str | None, trust_paths: bool, report: bool) -> int:
    """Paint the settings files and PNGs in FOLDER, for example overnight.

    \b
    A settings file is JSON or YAML: settings by name, or a list of these; times: 4 paints four seeds. A PNG made by
    vqtools is painted again. Files added during the run are painted too. A stopped or killed queue can be continued.

    \b
    vqtools queue tonight
    vqtools queue tonight --set iterations=400 --set size=384x384
    vqtools queue tonight --report
    """
    from vqtools.pipelines.queue import Queue
    from vqtools.pipelines.queue_report import summarise, table_rows

    fields = dict(_parse_change(change) for change in changes)
    job = Queue(folder, out=out, trusted=trust_paths, changes=fields, notify=echo_status)
    finished = True if report else job.run()
    statuses = job.statuses()
    for row in table_rows(statuses):
        click.echo("  ".join(cell for cell in row if cell))
    click.echo(f"{summarise(statuses)}; {job.out / 'report.md'}" if statuses else f"there is nothing to do in {folder}")
    if not finished:
        echo_status(f"stopped; continue with: vqtools queue {folder}")
    return 0 if finished else STOPPED


def _parse_change(text: str) -> tuple[str, Any]:
    """Split `iterations=400` into the name of a field and its value."""
    from vqtools.painting.settings import PaintSettings

    setting, equals, value = text.partition("=")
    if not equals or not setting.strip():
        raise UserError(f"--set {text!r}: write a setting and its value, as in --set iterations=400")
    return field_name(setting, PaintSettings), value.strip()
