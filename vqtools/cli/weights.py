"""TODO: what this module is.

Split from vqtools.cli.
"""

from __future__ import annotations

import functools
import shutil
import sys
from pathlib import Path

import click

from vqtools.cli.options import STOPPED, debug_option
from vqtools.core.errors import UserError


@click.group(invoke_without_command=True)
@debug_option
@click.pass_context
def weights(context: click.Context) -> None:
    """List the networks that are known: name, kind, size, whether it is here, licence, what it was trained on."""
    if context.invoked_subcommand is not None:
        return
    from vqtools.core.paths import home_folder
    from vqtools.weights.registry import all_records, format_bytes, unlisted_models

    rows = [("NAME", "KIND", "SIZE", "HERE", "LICENCE", "TRAINED ON")]
    for one in [*all_records(), *unlisted_models()]:
        here = "yes" if one.place.exists() else "no" if one.urls else "missing"
        licence = ", ".join(word for word in ("unverified" if one.unverified_reason else "", one.licence) if word)
        rows.append((one.name, one.kind, format_bytes(one.size), here, licence or "?", one.trained_on or "?"))
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    widths = [max(len(row[i]) for row in rows) for i in range(4)] + [36]
    for row in rows:
        cells = [cell.ljust(size) for cell, size in zip(row, widths, strict=False)]
        cells[4] = row[4].ljust(36) if not width or len(row[4]) <= 36 else row[4][:35] + "…"
        line = "  ".join([*cells, row[5]])
        click.echo(line[: width - 1] + "…" if 0 < width < len(line) else line)
    click.echo(f"fetch one: vqtools weights fetch NAME; yours, and those that were fetched, lie in {home_folder()}")


@weights.command("fetch")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Agree to a network whose licence or file could not be verified.")
@debug_option
def fetch_weights(name: str, yes: bool) -> int:
    """Download the network NAME, check it, and convert it."""
    from vqtools.weights import fetch
    from vqtools.weights.fetch import find_downloadable
    from vqtools.weights.registry import format_bytes

    record = find_downloadable(name)
    if not record.place.exists():
        facts = (format_bytes(record.size), f"licence: {record.licence or '?'}", f"trained on: {record.trained_on}")
        click.echo(f"{name}: {'; '.join(facts)}", err=True)
        if record.unverified_reason and not yes and sys.stdin.isatty():
            yes = click.confirm(f"It is unverified: {record.unverified_reason}. Fetch it all the same?", err=True)
            if not yes:
                raise UserError(f"{name} was not fetched")
    try:
        click.echo(str(fetch.fetch(record, yes=yes, say=functools.partial(click.echo, err=True))))
    except KeyboardInterrupt:
        click.echo("stopped; what came is kept: fetch again to go on" if record.sha256 else "stopped", err=True)
        return STOPPED
    return 0


@weights.command("convert")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="What to call it from then on [default: the file's name].")
@debug_option
def convert_weights(file: Path, name: str | None) -> None:
    """Convert a checkpoint of another program to a network that is found by its name.

    \b
    FILE may be a taming-transformers, latent-diffusion, diffusers or LlamaGen checkpoint, or a diffusers folder;
    the yaml that belongs to it is taken where it stands beside it.
    """
    from vqtools.core.paths import home_folder
    from vqtools.weights import convert
    from vqtools.weights.convert import paths_by_name
    from vqtools.weights.registry import validate_name

    name = validate_name(file.stem if name is None else name)
    place = paths_by_name(home_folder(), name)
    for path in (place("", True), place("vqgan", False), place("condition", False)):
        if path.exists():
            raise UserError(f"{path} is there already; choose another name with --name")
    done = convert.convert(file, place)
    for note in done.notes:
        click.echo(note, err=True)
    for kind, path in done.files.items():
        click.echo(f"{kind} {path.stem} (from {done.family}): {path}")
