"""The command `vqtools`.

Knows flags, files and exit codes; the work itself is the studio's. Imports nothing heavy before a command needs it.
Exit codes: 0 done, 2 asked for something impossible, 130 stopped by Ctrl-C with what was made kept, 1 a fault of ours.
"""

from __future__ import annotations

import functools
import io
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from vqtools import __version__
from vqtools.cli_animate import animate
from vqtools.cli_paint import paint, parse_out_path, save_picture
from vqtools.cli_queue import presets, queue, upscale
from vqtools.cli_sheets import blocks, candidates, grid
from vqtools.cli_stills import fly, morph
from vqtools.cli_training import train_transformer, train_vqgan
from vqtools.flags import STOPPED, SettingsCommand, debug_option, fields_from_flags
from vqtools.settings import Settings, UserError, shorten


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a console without Unicode must not spoil a finished picture
            stream.reconfigure(errors="replace")
    state = {"debug": False}
    try:
        code = command.main(arguments, prog_name="vqtools", standalone_mode=False, obj=state)
    except UserError as error:
        code = _echo_error(str(error), 2)
        if error.pointer:
            click.echo(error.pointer, err=True)
    except click.UsageError as error:
        way_out = f"; see {error.ctx.command_path} --help" if error.ctx else ""
        code = _echo_error(error.format_message().rstrip(".") + way_out, 2)
    except click.ClickException as error:
        code = _echo_error(error.format_message(), 2)
    except (KeyboardInterrupt, click.Abort):
        code = _echo_error("stopped before there was anything to keep", STOPPED)
    except Exception as error:
        if state["debug"]:
            traceback.print_exc()
        code = _echo_error(f"{type(error).__name__}: {shorten(str(error))}; run again with --debug to see where", 1)
    sys.exit(code if isinstance(code, int) else 0)


def _echo_error(message: str, code: int) -> int:
    click.echo(f"vqtools: {' '.join(message.split())}", err=True)
    return code


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vqtools")
@debug_option
@click.pass_context
def command(context: click.Context) -> None:
    """Pictures from words with VQGAN and CLIP."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


command.add_command(animate)
command.add_command(morph)
command.add_command(fly)
command.add_command(paint)
command.add_command(candidates)
command.add_command(grid)
command.add_command(blocks)
command.add_command(queue)
command.add_command(presets)
command.add_command(upscale)
command.add_command(train_vqgan)
command.add_command(train_transformer)


def _sample_settings() -> type[Settings]:
    from vqtools.sampling.settings import SampleSettings

    return SampleSettings


@click.command(cls=SettingsCommand, settings=_sample_settings)
@click.argument("prompt", nargs=-1)
@click.option("--from", "source", metavar="PICTURE.png", help="Take all settings from a picture that sample made.")
@click.option("--trust-paths", is_flag=True, help="Read the files that the settings inside --from's picture name.")
@click.option("--out", metavar="PATH", help="File or folder to write to [default: named after prompt and seed].")
@click.option("--film", is_flag=True, help="Also a video of the window walking.")
@debug_option
def sample(
    prompt: tuple[str, ...], source: str | None, trust_paths: bool, out: str | None, film: bool, **flags: Any
) -> int:
    """Draw a picture of any size with a transformer, of PROMPT where it reads captions.

    \b
    vqtools sample --size 256x128 --seed 42
    vqtools sample --complete picture.png --keep upper
    vqtools sample --size 512x128 --seamless --stride 4
    """
    from vqtools.drawing import create_sample_job
    from vqtools.jobs import run_job
    from vqtools.media import check_writable, file_stem, read_record
    from vqtools.painting.inputs import refuse_file_paths
    from vqtools.sampling.settings import SampleSettings

    if len(prompt) > 1:
        raise UserError(f'the prompt is one argument; put it in quotes: vqtools sample "{" ".join(prompt)}"')
    folder, name = parse_out_path(out)
    check_writable(folder)
    fields = fields_from_flags(flags) | ({"prompt": prompt[0]} if prompt else {})
    if source is not None:
        record = read_record(source)
        if record.get("activity") != "sample" or not isinstance(record.get("settings"), dict):
            raise UserError(f"{source} was not made by vqtools sample; leave --from away")
        if not trust_paths:
            refuse_file_paths({name: value for name, value in record["settings"].items() if name not in fields})
        fields = record["settings"] | fields
    started = time.monotonic()
    job = create_sample_job(SampleSettings.parse(fields).quick())
    width, height = job.settings.size
    click.echo(f"{width}x{height}, seed {job.settings.seed}, {job.machine.describe()}", err=True)
    target = folder / (name or file_stem(job.settings.prompt or "sample", job.settings.seed or 0) + ".png")
    if film:
        from vqtools.onward import Timelapse

        with Timelapse(job) as filmed:
            finished = run_job(filmed, label="drawing")
            if job.position:
                click.echo(str(filmed.write(target.with_name(f"{target.stem}-window.mp4")).path))
    else:
        finished = run_job(job, label="drawing")
    if job.position == 0 and not finished:
        raise KeyboardInterrupt
    save_picture(job, target, started)
    if not finished:
        click.echo(f"stopped after {job.position} of {job.total} steps", err=True)
    return 0 if finished else STOPPED


def _score_settings() -> type[Settings]:
    from vqtools.sampling.settings import ScoreSettings

    return ScoreSettings


@click.command(cls=SettingsCommand, settings=_score_settings)
@click.argument("picture")
@click.option("--out", metavar="PATH", help="File or folder for the heat map [default: PICTURE-surprise.png].")
@debug_option
def score(picture: str, out: str | None, **flags: Any) -> int:
    """How likely a transformer finds PICTURE, and a heat map of how surprising each of its codes is."""
    from vqtools.drawing import create_score_job
    from vqtools.jobs import run_job
    from vqtools.media import check_writable, load_picture, save_png
    from vqtools.sampling.settings import ScoreSettings

    folder, name = parse_out_path(out)
    check_writable(folder)
    settings = ScoreSettings.parse(fields_from_flags(flags))
    job = create_score_job(load_picture(picture), settings)
    if not run_job(job, label="scoring"):
        raise KeyboardInterrupt
    target = folder / (name or f"{Path(picture).stem}-surprise.png")
    record = {"activity": "score", "settings": settings.model_dump(mode="json"), "bits a code": job.bits}
    path = save_png(target, job.heat_map(), record)
    codes, nats = job.nats.numel(), float(job.nats.sum())
    click.echo(f"{job.bits:.2f} bits a code, perplexity {2**job.bits:.1f}; {codes} codes, ln p = {-nats:.0f}; {path}")
    return 0


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[FOLDER] [JUPYTER'S FLAGS]")
@debug_option
def lab(arguments: tuple[str, ...]) -> int:
    """Open JupyterLab on a copy of the notebooks.

    They are copied into FOLDER (vqtools-notebooks if none is named), where your own changes are never overwritten.
    Flags like --no-browser go on to JupyterLab.
    """
    import importlib.util
    import subprocess

    from vqtools.media import check_writable
    from vqtools.pages import copy_notebooks

    named = bool(arguments) and not arguments[0].startswith("-")
    folder = Path(arguments[0] if named else "vqtools-notebooks")
    if importlib.util.find_spec("jupyterlab") is None:
        raise UserError("JupyterLab is not installed; pip install jupyterlab")
    check_writable(folder)
    copied, kept = copy_notebooks(folder)
    click.echo(f"notebooks in {folder}: {copied} copied, {kept} kept as you left them", err=True)
    # JupyterLab answers Ctrl-C itself; a handler, unlike SIG_IGN, is not handed down to it
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        return subprocess.call([sys.executable, "-m", "jupyterlab", *arguments[named:]], cwd=folder)
    finally:
        signal.signal(signal.SIGINT, before)


@click.group(invoke_without_command=True)
@debug_option
@click.pass_context
def weights(context: click.Context) -> None:
    """List the networks that are known: name, kind, size, whether it is here, licence, what it was trained on."""
    if context.invoked_subcommand is not None:
        return
    from vqtools.weights.registry import all_records, format_bytes, home_folder, unlisted_models

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
    from vqtools.weights import convert
    from vqtools.weights.convert import paths_by_name
    from vqtools.weights.registry import home_folder, validate_name

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


@click.command()
@debug_option
def info() -> None:
    """Versions, device, memory, and where files live."""
    import platform

    from vqtools.device import choose_machine
    from vqtools.pages import notebooks_folder
    from vqtools.weights.registry import home_folder

    rows = [("vqtools", __version__), ("python", f"{platform.python_version()} on {platform.platform()}")]
    rows += [
        (name, _package_version(name)) for name in ("torch", "open_clip_torch", "kornia", "ipywidgets", "jupyterlab")
    ]
    rows += [("device", choose_machine().describe()), ("memory", _system_memory()), ("models", str(home_folder()))]
    try:
        rows.append(("notebooks", str(notebooks_folder())))
    except UserError as error:
        rows.append(("notebooks", str(error)))
    for label, value in rows:
        click.echo(f"{label:16}{value}")


def _package_version(package: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _system_memory() -> str:
    import os

    try:
        total, free = (os.sysconf("SC_PAGE_SIZE") * os.sysconf(name) for name in ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES"))
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf, a Mac no free pages
        return "unknown"
    return f"{total / 2**30:.1f} GB, {free / 2**30:.1f} GB free"


command.add_command(sample)
command.add_command(score)
command.add_command(lab)
command.add_command(weights)
command.add_command(info)
