"""The commands `vqtools drafts`, `vqtools grid` and `vqtools blocks`: many small pictures, and words for prompts.

Knows flags, files and words; the work itself is sheets.py's. Imports nothing heavy before it is called.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vqtools.cli_paint import finish_painting, paint_settings, parse_out_path, save_picture
from vqtools.flags import STOPPED, SettingsCommand, debug_option, fields_from_flags
from vqtools.settings import UserError

if TYPE_CHECKING:
    from vqtools.sheets import PaintGrid

_MAX_VALUES = 256


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
    from vqtools.media import check_writable, file_stem, read_record
    from vqtools.painting.settings import PaintSettings
    from vqtools.sheets import create_candidate_grid, read_cells

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


def add_blocks(prompt: str, added: tuple[str, ...]) -> str:
    from vqtools import blocks

    return blocks.add_blocks(prompt, added) if added else prompt


def _parse_pair(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise UserError(f"--cross {text!r}: write the numbers of two drafts, as in --cross 3,12")
    return [int(part) for part in parts]


def _continue_from_candidates(
    cells: list[Any], numbers: list[int], halves: Any, fields: dict[str, Any], folder: Path, name: str | None
) -> int:
    """Make the drafts again that are wanted, and go on from them."""
    from vqtools.jobs import run_job
    from vqtools.painting.settings import PaintSettings
    from vqtools.sheets import PaintGrid

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
    from vqtools.blocks import read_prompt_file
    from vqtools.media import check_writable, file_stem
    from vqtools.painting.settings import PaintSettings
    from vqtools.sheets import create_settings_grid

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
    from vqtools import media
    from vqtools.jobs import run_job
    from vqtools.sharing import distribute_cells
    from vqtools.sheets import draw_grid
    from vqtools.trainings import init_distributed

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
        whole = draw_grid(sheet.cells, [media.load_picture(path) for path in paths])
        click.echo(f"{media.save_png(folder / name, whole, sheet.record())} ({len(paths)} pictures)")
        return 0
    finally:
        team.close()


def run_grid(sheet: PaintGrid, folder: Path, name: str, each: bool) -> int:
    """Paint a sheet, save it, and every picture of it if asked."""
    from vqtools.jobs import run_job
    from vqtools.media import save_png

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
        for i, done in enumerate(sheet.done):
            click.echo(str(save_png(folder / f"{Path(name).stem}-{i + 1:02d}.png", done.picture, done.record)))
    save_picture(sheet, folder / name, started)
    return 0 if finished else STOPPED


@click.command()
@click.option("--edit", is_flag=True, help="Make a file of your own from the shipped blocks, and say where it lies.")
@debug_option
def blocks(edit: bool) -> None:
    """Words to add to prompts, by name: vqtools paint "a castle" --with watercolour --with no-lettering."""
    from vqtools.blocks import create_user_file, load_blocks, user_file

    if edit:
        click.echo(str(create_user_file()))
        return
    for group, named in load_blocks().items():
        click.echo(f"[{group}]")
        for name, text in named.items():
            click.echo(f"  {name:16} {text}")
    own = user_file()
    click.echo(f"yours, in {own}" if own.exists() else "make them yours: vqtools blocks --edit")
