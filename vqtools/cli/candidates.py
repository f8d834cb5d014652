"""TODO: what this module is.

Split from vqtools.cli_sheets.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vqtools.cli.blocks import add_blocks
from vqtools.cli.grid import run_grid
from vqtools.cli.options import SettingsCommand, debug_option, fields_from_flags
from vqtools.cli.output import finish_painting, parse_out_path
from vqtools.cli.paint import paint_settings
from vqtools.core.errors import UserError

if TYPE_CHECKING:
    pass


@click.command(cls=SettingsCommand, settings=paint_settings)
@click.argument("prompt", nargs=-1)
@click.option("--count", type=int, default=16, show_default=True, help="How many drafts, each of its own seed.")
@click.option("--with", "added", metavar="BLOCK", multiple=True, help="Add a block of words; see vqtools blocks.")
@click.option("--from", "source", metavar="SHEET.png", help="A sheet made before, to go on from.")
@click.option("--pick", type=int, metavar="NUMBER", help="With --from: go on with this draft.")
@click.option("--cross", metavar="A,B", help="With --from: go on from halves of these two drafts.")
@click.option("--halves", type=click.Choice(["left-right", "top-bottom"]), default="left-right", help="Of --cross.")
@click.option("--each", is_flag=True, help="Save every draft as a picture of its own, too.")
@click.option("--out", metavar="PATH", help="File or folder to write to [default: named after prompt and seed].")
@debug_option
def candidates(
    prompt: tuple[str, ...],
    count: int,
    added: tuple[str, ...],
    source: str | None,
    pick: int | None,
    cross: str | None,
    halves: Any,
    each: bool,
    out: str | None,
    **flags: Any,
) -> int:
    """A sheet of drafts of PROMPT: sixteen seeds at forty steps; then go on with one, or with halves of two.

    \b
    vqtools drafts "a castle by the sea" --seed 1
    vqtools drafts --from a-castle-by-the-sea-1-drafts.png --pick 7 --iterations 200
    vqtools drafts --from a-castle-by-the-sea-1-drafts.png --cross 3,12
    """
    from vqtools.core.files import check_writable
    from vqtools.core.paths import file_stem
    from vqtools.media.png_record import read_record
    from vqtools.painting.settings import PaintSettings
    from vqtools.pipelines.grid import create_candidate_grid, read_cells

    folder, name = parse_out_path(out)
    check_writable(folder)
    fields = fields_from_flags(flags)
    if source is not None:
        if (pick is None) == (cross is None) or prompt:
            raise UserError(
                "--from a sheet wants --pick NUMBER or --cross A,B, and nothing else but settings to change"
            )
        cells = read_cells(read_record(source))
        numbers = [pick] if pick is not None else _parse_pair(cross or "")
        return _continue_from_candidates(
            cells, [int(number or 0) - 1 for number in numbers], halves, fields, folder, name
        )
    if len(prompt) != 1:
        raise UserError('one prompt, in quotes: vqtools drafts "a castle by the sea"')
    settings = PaintSettings.parse({**fields, "prompt": add_blocks(prompt[0], added)})
    sheet = create_candidate_grid(settings, count=count)
    stem = f"{file_stem(settings.prompt, sheet.settings.seed or 0)}-drafts"
    return run_grid(sheet, folder, name or f"{stem}.png", each)


def _parse_pair(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise UserError(f"--cross {text!r}: write the numbers of two drafts, as in --cross 3,12")
    return [int(part) for part in parts]


def _continue_from_candidates(
    cells: list[Any], numbers: list[int], halves: Any, fields: dict[str, Any], folder: Path, name: str | None
) -> int:
    """Make the drafts again that are wanted, and go on from them."""
    from vqtools.core.job import run_job
    from vqtools.painting.settings import PaintSettings
    from vqtools.pipelines.grid import PaintGrid

    started = time.monotonic()
    for number in numbers:
        if not 0 <= number < len(cells):
            raise UserError(f"there is no draft {number + 1} on the sheet; there are 1 to {len(cells)}")
    chosen = PaintGrid([cells[number] for number in numbers], activity="drafts")
    if not run_job(chosen, label="drafts"):
        raise KeyboardInterrupt
    more = int(fields.pop("iterations", PaintSettings().iterations))
    stem = f"{Path(name).stem}" if name else "-".join(["draft", *(str(number + 1) for number in numbers)])
    if len(numbers) == 1:
        job = chosen.pick(0, iterations=chosen.settings.iterations + more, **fields)
    else:
        job = chosen.cross(0, 1, halves, iterations=more, **fields)
    return finish_painting(job, folder, name or f"{stem}-seed-{job.settings.seed}.png", started)[0]
