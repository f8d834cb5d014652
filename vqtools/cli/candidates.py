"""The command `vqtools candidates`: a grid of short runs with one seed each, and how to continue from the best of them.

Knows flags, files and messages; `pipelines.grid` paints. Imports nothing heavy before it is called.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from vqtools.cli.blocks import add_blocks
from vqtools.cli.grid import run_grid
from vqtools.cli.options import SettingsCommand, debug_option, fields_from_flags
from vqtools.cli.output import finish_painting, parse_out_path
from vqtools.cli.paint import paint_settings
from vqtools.core.errors import UserError


@click.command(cls=SettingsCommand, settings=paint_settings)
@click.argument("prompt", nargs=-1)
@click.option("--count", type=int, default=16, show_default=True, help="Number of candidates, each with its own seed.")
@click.option("--with", "added", metavar="BLOCK", multiple=True, help="Add a prompt block; see vqtools blocks.")
@click.option("--from", "source", metavar="GRID.png", help="A grid of candidates to continue from.")
@click.option("--pick", type=int, metavar="NUMBER", help="With --from: continue with this candidate.")
@click.option("--cross", metavar="A,B", help="With --from: continue from halves of these two candidates.")
@click.option(
    "--halves",
    type=click.Choice(["left-right", "top-bottom"]),
    default="left-right",
    help="The two halves that --cross combines.",
)
@click.option("--each", is_flag=True, help="Also save every candidate as a separate PNG.")
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
    """Paint a grid of candidates for PROMPT, 16 seeds with 40 iterations each; then continue with one, or combine two.

    \b
    vqtools candidates "a castle by the sea" --seed 1
    vqtools candidates --from a-castle-by-the-sea-1-drafts.png --pick 7 --iterations 200
    vqtools candidates --from a-castle-by-the-sea-1-drafts.png --cross 3,12
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
            raise UserError("--from needs --pick NUMBER or --cross A,B, and takes no prompt; settings may be changed")
        cells = read_cells(read_record(source))
        numbers = [pick] if pick is not None else _parse_pair(cross or "")
        return _continue_from_candidates(cells, [number - 1 for number in numbers], halves, fields, folder, name)
    if len(prompt) != 1:
        raise UserError('write one prompt, in quotes: vqtools candidates "a castle by the sea"')
    settings = PaintSettings.parse({**fields, "prompt": add_blocks(prompt[0], added)})
    grid = create_candidate_grid(settings, count=count)
    stem = f"{file_stem(settings.prompt, grid.settings.known_seed)}-drafts"
    return run_grid(grid, folder, name or f"{stem}.png", each)


def _parse_pair(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise UserError(f"--cross {text!r}: write the numbers of two candidates, as in --cross 3,12")
    return [int(part) for part in parts]


def _continue_from_candidates(
    cells: list[Any], indices: list[int], halves: Any, fields: dict[str, Any], folder: Path, name: str | None
) -> int:
    """Paint the chosen candidates again and continue from them: from one of them, or from halves of two."""
    from vqtools.core.job import run_job
    from vqtools.painting.settings import PaintSettings
    from vqtools.pipelines.grid import PaintGrid

    started = time.monotonic()
    for index in indices:
        if not 0 <= index < len(cells):
            raise UserError(f"there is no candidate {index + 1}; the grid has 1 to {len(cells)}")
    grid = PaintGrid([cells[index] for index in indices], activity="drafts")
    if not run_job(grid, label="candidates"):
        raise KeyboardInterrupt
    iterations = int(fields.pop("iterations", PaintSettings().iterations))
    stem = Path(name).stem if name else "-".join(["draft", *(str(index + 1) for index in indices)])
    if len(indices) == 1:
        job = grid.pick(0, iterations=grid.settings.iterations + iterations, **fields)
    else:
        job = grid.cross(0, 1, halves, iterations=iterations, **fields)
    return finish_painting(job, folder, name or f"{stem}-seed-{job.settings.seed}.png", started)[0]
