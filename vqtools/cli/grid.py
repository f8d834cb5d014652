"""The command `vqtools grid`: pictures of several prompts and settings on one labelled sheet.

Knows flags, files and messages; `pipelines.grid` paints. Imports nothing heavy before it is called.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vqtools.cli.blocks import add_blocks
from vqtools.cli.options import STOPPED, SettingsCommand, debug_option, field_name, fields_from_flags
from vqtools.cli.output import echo_status, parse_out_path, save_picture
from vqtools.cli.paint import paint_settings
from vqtools.core.errors import UserError

if TYPE_CHECKING:
    from vqtools.pipelines.grid import PaintGrid

_MAX_VALUES = 256  # of a range like seed=1-4


@click.command(cls=SettingsCommand, settings=paint_settings)
@click.argument("prompt", nargs=-1)
@click.option("--prompts", metavar="FILE", help="More prompts, one for each line of a text file.")
@click.option(
    "--vary",
    metavar="SETTING=A,B,…",
    multiple=True,
    help="Values of a setting to compare; ranges of whole numbers as 1-4.",
)
@click.option("--with", "added", metavar="BLOCK", multiple=True, help="Add a prompt block; see vqtools blocks.")
@click.option("--each", is_flag=True, help="Also save every picture as a separate PNG.")
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
    """Paint a labelled grid: every PROMPT with every combination of the values that --vary lists.

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
    texts = [*prompt, *(read_prompt_file(prompts) if prompts else [])]
    if not texts:
        raise UserError('there is no prompt; say what to paint: vqtools grid "a castle" --vary seed=1-4')
    values_by_field: dict[str, list[Any]] = {"prompt": [add_blocks(text, added) for text in texts]}
    for assignment in vary:
        setting, values = _parse_vary(assignment)
        values_by_field[field_name(setting, PaintSettings)] = values
    fields = {**fields_from_flags(flags), "prompt": values_by_field["prompt"][0]}
    job = create_settings_grid(PaintSettings.parse(fields), values_by_field)
    stem = f"{file_stem(texts[0], job.settings.known_seed)}-grid"
    return run_grid(job, folder, name or f"{stem}.png", each)


def _parse_vary(text: str) -> tuple[str, list[Any]]:
    """Split `seed=1-4` or `vqgan=a,b` into the name of a setting and its values."""
    setting, equals, values_text = text.partition("=")
    parts = [part.strip() for part in values_text.split(",") if part.strip()]
    if not equals or not parts:
        raise UserError(f"--vary {text!r}: write a setting and its values, as in --vary seed=1,2,3")
    values: list[Any] = []
    for part in parts:
        first, dash, last = part.partition("-")
        if dash and first.isdecimal() and last.isdecimal():
            if not int(first) <= int(last) < int(first) + _MAX_VALUES:
                raise UserError(f"--vary {text!r}: {part} is not an ascending range of at most {_MAX_VALUES} values")
            values += range(int(first), int(last) + 1)
        else:
            values.append(part)
    return setting, values


def run_grid(job: PaintGrid, folder: Path, name: str, each: bool) -> int:
    """Paint a grid and save it, and with ``each`` every picture of it too; returns the exit code.

    Under `accelerate launch` the processes share the pictures.
    """
    from vqtools.core.job import run_job
    from vqtools.media.png_record import save_png

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        if job.settings.seed is None:
            raise UserError("processes that share a grid need --seed, so that all paint the same grid")
        return _run_grid_distributed(job, folder, name)
    started = time.monotonic()
    echo_status(f"{len(job.cells)} pictures, {job.machine.describe()}")
    finished = run_job(job, label="painting")
    if job.position == 0:
        raise KeyboardInterrupt
    if each:
        for number, result in enumerate(job.finished, 1):
            path = folder / f"{Path(name).stem}-{number:02d}.png"
            click.echo(str(save_png(path, result.picture, result.record)))
    save_picture(job, folder / name, started)
    return 0 if finished else STOPPED


def _run_grid_distributed(job: PaintGrid, folder: Path, name: str) -> int:
    """Paint a grid's pictures together with the processes that accelerate started; the first one draws the grid."""
    from vqtools.core.distributed import init_distributed
    from vqtools.core.job import run_job
    from vqtools.media.image import load_picture
    from vqtools.media.png_record import save_png
    from vqtools.pipelines.distribute import distribute_cells
    from vqtools.pipelines.grid_layout import draw_grid

    distributed = init_distributed(None)
    try:
        paths = distribute_cells(
            job.cells, folder, Path(name).stem, distributed, run=lambda part: run_job(part, label="painting")
        )
        if distributed.rank:
            return 0
        if paths is None:
            echo_status(f"pictures are missing in {str(folder)!r}; run the same command again to continue")
            return STOPPED
        picture = draw_grid(job.cells, [load_picture(path) for path in paths])
        click.echo(f"{save_png(folder / name, picture, job.record())} ({len(paths)} pictures)")
        return 0
    finally:
        distributed.close()
