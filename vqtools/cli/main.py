"""The command `vqtools`.

Knows flags, files and exit codes; the work itself is the studio's. Imports nothing heavy before a command needs it.
Exit codes: 0 done, 2 asked for something impossible, 130 stopped by Ctrl-C with what was made kept, 1 a fault of ours.
"""

from __future__ import annotations

import io
import sys
import traceback
from collections.abc import Sequence

import click

from vqtools.cli.animate import animate
from vqtools.cli.blocks import blocks
from vqtools.cli.candidates import candidates
from vqtools.cli.grid import grid
from vqtools.cli.info import info
from vqtools.cli.lab import lab
from vqtools.cli.morph import fly, morph
from vqtools.cli.options import STOPPED, debug_option
from vqtools.cli.paint import paint
from vqtools.cli.presets import presets
from vqtools.cli.queue import queue
from vqtools.cli.sample import sample
from vqtools.cli.score import score
from vqtools.cli.train import train_transformer, train_vqgan
from vqtools.cli.upscale import upscale
from vqtools.cli.weights import weights
from vqtools.core.errors import UserError, shorten
from vqtools.version import __version__


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


command.add_command(sample)
command.add_command(score)
command.add_command(lab)
command.add_command(weights)
command.add_command(info)
