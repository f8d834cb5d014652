"""The command `vqtools weights`: list, download and convert networks.

Knows flags, tables and messages; the package `weights` does the work. Imports nothing heavy before it is called.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from vqtools.cli.options import STOPPED, debug_option
from vqtools.cli.output import echo_status
from vqtools.core.errors import UserError


@click.group(invoke_without_command=True)
@debug_option
@click.pass_context
def weights(context: click.Context) -> None:
    """List all known networks: name, kind, size, whether it is downloaded, licence, training data."""
    if context.invoked_subcommand is not None:
        return
    from vqtools.core.paths import home_folder
    from vqtools.weights.registry import all_records, format_bytes, unlisted_models

    rows = [("NAME", "KIND", "SIZE", "HERE", "LICENCE", "TRAINED ON")]
    for record in [*all_records(), *unlisted_models()]:
        here = "yes" if record.path.exists() else "no" if record.urls else "missing"
        words = ("unverified" if record.unverified_reason else "", record.licence)
        licence = ", ".join(word for word in words if word)
        rows.append(
            (record.name, record.kind, format_bytes(record.size), here, licence or "?", record.trained_on or "?")
        )
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    widths = [max(len(row[i]) for row in rows) for i in range(4)] + [36]
    for row in rows:
        cells = [cell.ljust(size) for cell, size in zip(row, widths, strict=False)]
        cells[4] = row[4].ljust(36) if not width or len(row[4]) <= 36 else row[4][:35] + "…"
        line = "  ".join([*cells, row[5]])
        click.echo(line[: width - 1] + "…" if 0 < width < len(line) else line)
    click.echo(
        f"download one with: vqtools weights fetch NAME; downloaded networks and your own are in {home_folder()}"
    )


@weights.command("fetch")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Accept a network whose licence or file could not be verified.")
@debug_option
def fetch_weights(name: str, yes: bool) -> int:
    """Download the network NAME, verify its hash, and convert it."""
    from vqtools.weights import fetch
    from vqtools.weights.fetch import find_downloadable
    from vqtools.weights.registry import format_bytes

    record = find_downloadable(name)
    if not record.path.exists():
        facts = (format_bytes(record.size), f"licence: {record.licence or '?'}", f"trained on: {record.trained_on}")
        echo_status(f"{name}: {'; '.join(facts)}")
        if record.unverified_reason and not yes and sys.stdin.isatty():
            yes = click.confirm(f"It is unverified: {record.unverified_reason}. Download it anyway?", err=True)
            if not yes:
                raise UserError(f"{name} was not downloaded")
    try:
        click.echo(str(fetch.fetch(record, yes=yes, say=echo_status)))
    except KeyboardInterrupt:
        echo_status("stopped; run the same command again to continue" if record.sha256 else "stopped")
        return STOPPED
    return 0


@weights.command("convert")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="Name of the converted network [default: the file's name].")
@debug_option
def convert_weights(file: Path, name: str | None) -> None:
    """Convert a checkpoint of another program to a network that vqtools can load by name.

    \b
    FILE may be a taming-transformers, latent-diffusion, diffusers or LlamaGen checkpoint, or a diffusers folder;
    a yaml config beside it is read too.
    """
    from vqtools.core.paths import home_folder
    from vqtools.weights.convert import convert, paths_by_name
    from vqtools.weights.registry import validate_name

    name = validate_name(file.stem if name is None else name)
    path_of = paths_by_name(home_folder(), name)
    for path in (path_of("", True), path_of("vqgan", False), path_of("condition", False)):
        if path.exists():
            raise UserError(f"{path} exists already; choose another name with --name")
    converted = convert(file, path_of)
    for note in converted.notes:
        echo_status(note)
    for kind, path in converted.files.items():
        click.echo(f"{kind} {path.stem} (from {converted.family}): {path}")
