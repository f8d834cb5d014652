"""The commands `vqtools drafts`, `vqtools grid` and `vqtools blocks`: many small pictures, and words for prompts.

Knows flags, files and words; the work itself is sheets.py's. Imports nothing heavy before it is called.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vqtools.cli.blocks import add_blocks
from vqtools.cli.options import STOPPED, SettingsCommand, debug_option, fields_from_flags
from vqtools.cli.output import parse_out_path, save_picture
from vqtools.cli.paint import paint_settings
from vqtools.core.errors import UserError

if TYPE_CHECKING:
    from vqtools.pipelines.grid import PaintGrid

_MAX_VALUES = 256


@click.command(cls=SettingsCommand, settings=paint_settings)
@click.argument("prompt", nargs=-1)
@click.option("--prompts", metavar="FILE", help="More prompts, one a line of a text file.")
@click.option(
    "--vary", metavar="SETTING=A,B,…", multiple=True, help="Values that a setting takes; whole numbers also as 1-4."
)
@click.option("--with", "added", metavar="BLOCK", multiple=True, help="Add a block of words; see vqtools blocks.")
@click.option("--each", is_flag=True, help="Save every picture by itself, too.")
@click.option("--out", metavar="PATH", help="File or folder to write to [default: named after the first prompt].")
@debug_option
def grid(
    prompt: tuple[str, ...],
    prompts: str | None,
    vary: tuple[str, ...],
    added: tuple[str, ...],
    each: bool,
    out: str | None,
    **flags: Any,
) -> int:
    """A grid of labelled runs: every PROMPT with every value of what is varied.

    \b
    vqtools grid "a castle" "a forest" --vary seed=1-4
    vqtools grid "a castle" --vary vqgan=starter,my-watercolours --vary seed=1,2,3
    vqtools grid --prompts prompts.txt --vary learning_rate=0.05,0.1 --vary seed=1-3
    """
    from vqtools.core.files import check_writable
    from vqtools.core.paths import file_stem
    from vqtools.painting.prompt_blocks import read_prompt_file
    from vqtools.painting.settings import PaintSettings
    from vqtools.pipelines.grid import create_settings_grid

    folder, name = parse_out_path(out)
    check_writable(folder)
    asked = [*prompt, *(read_prompt_file(prompts) if prompts else [])]
    if not asked:
        raise UserError('there is no prompt; say what to paint: vqtools grid "a castle" --vary seed=1-4')
    varied: dict[str, list[Any]] = {"prompt": [add_blocks(one, added) for one in asked]}
    for one in vary:
        field, values = _parse_vary(one)
        varied[field] = values
    fields = {**fields_from_flags(flags), "prompt": varied["prompt"][0]}
    sheet = create_settings_grid(PaintSettings.parse(fields), varied)
    stem = f"{file_stem(asked[0], sheet.settings.seed or 0)}-grid"
    return run_grid(sheet, folder, name or f"{stem}.png", each)


def _parse_vary(text: str) -> tuple[str, list[Any]]:
    """`seed=1-4` or `vqgan=a,b` as a field's name and its values."""
    field, equals, listed = text.partition("=")
    values = [value.strip() for value in listed.split(",") if value.strip()]
    if not equals or not values:
        raise UserError(f"--vary {text!r}: write a setting and its values, as in --vary seed=1,2,3")
    found: list[Any] = []
    for value in values:
        first, dash, last = value.partition("-")
        if dash and first.isdecimal() and last.isdecimal():
            if not int(first) <= int(last) < int(first) + _MAX_VALUES:
                raise UserError(f"--vary {text!r}: {value} is no range from less to more, of at most {_MAX_VALUES}")
            found += range(int(first), int(last) + 1)
        else:
            found.append(value)
    return field.strip().replace("-", "_"), found


def _run_grid_distributed(sheet: PaintGrid, folder: Path, name: str) -> int:
    """Paint a sheet's pictures together with the processes that accelerate started; the first puts them on a sheet."""
    from vqtools.core.distributed import init_distributed
    from vqtools.core.job import run_job
    from vqtools.media.image import load_picture
    from vqtools.media.png_record import save_png
    from vqtools.pipelines.distribute import distribute_cells
    from vqtools.pipelines.grid import draw_grid

    team = init_distributed(None)
    try:
        paths = distribute_cells(
            sheet.cells, folder, Path(name).stem, team, run=lambda job: run_job(job, label="painting")
        )
        if team.rank:
            return 0
        if paths is None:
            click.echo(f"pictures are missing in {str(folder)!r}; say the same again to go on", err=True)
            return STOPPED
        whole = draw_grid(sheet.cells, [load_picture(path) for path in paths])
        click.echo(f"{save_png(folder / name, whole, sheet.record())} ({len(paths)} pictures)")
        return 0
    finally:
        team.close()


def run_grid(sheet: PaintGrid, folder: Path, name: str, each: bool) -> int:
    """Paint a sheet, save it, and every picture of it if asked."""
    from vqtools.core.job import run_job
    from vqtools.media.png_record import save_png

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        if sheet.settings.seed is None:
            raise UserError("processes that share a grid want --seed, so that all paint the same one")
        return _run_grid_distributed(sheet, folder, name)
    started = time.monotonic()
    click.echo(f"{len(sheet.cells)} pictures, {sheet.machine.describe()}", err=True)
    finished = run_job(sheet, label="painting")
    if sheet.position == 0:
        raise KeyboardInterrupt
    if each:
        for i, done in enumerate(sheet.finished):
            click.echo(str(save_png(folder / f"{Path(name).stem}-{i + 1:02d}.png", done.picture, done.record)))
    save_picture(sheet, folder / name, started)
    return 0 if finished else STOPPED
