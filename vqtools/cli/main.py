"""The command `vqtools`: the group of all commands, and how errors become messages and exit codes.

Exit codes: 0 done; 1 internal error; 2 user error, in one line; 130 stopped by Ctrl-C, with what was made kept.
Importing it imports every command and nothing heavy, so that --help is fast.
"""

from __future__ import annotations

import copy
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
    """Run the command line and exit with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a console without Unicode must not raise an error
            stream.reconfigure(errors="replace")
    state = {"debug": False}
    try:
        code = command.main(arguments, prog_name="vqtools", standalone_mode=False, obj=state)
    except UserError as error:
        code = _echo_error(str(error), 2)
        if error.pointer:
            click.echo(error.pointer, err=True)
    except click.UsageError as error:
        hint = f"; see {error.ctx.command_path} --help" if error.ctx else ""
        code = _echo_error(error.format_message().rstrip(".") + hint, 2)
    except click.ClickException as error:
        code = _echo_error(error.format_message(), 2)
    except (KeyboardInterrupt, click.Abort):
        code = _echo_error("stopped before there was anything to save", STOPPED)
    except Exception as error:
        if state["debug"]:
            traceback.print_exc()
        code = _echo_error(
            f"{type(error).__name__}: {shorten(str(error))}; run again with --debug for the traceback", 1
        )
    sys.exit(code if isinstance(code, int) else 0)


def _echo_error(message: str, code: int) -> int:
    click.echo(f"vqtools: {' '.join(message.split())}", err=True)
    return code


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vqtools")
@debug_option
@click.pass_context
def command(context: click.Context) -> None:
    """Make pictures and videos from text with VQGAN and CLIP."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _add_hidden_alias(original: click.Command, name: str) -> None:
    """Keep a command callable under a name it had before."""
    alias = copy.copy(original)
    alias.hidden = True
    command.add_command(alias, name)


_COMMANDS = (
    paint, candidates, grid, blocks, sample, score, queue, presets, upscale, animate, morph, fly,
    train_vqgan, train_transformer, weights, lab, info,
)  # fmt: skip
for _command in _COMMANDS:
    command.add_command(_command)
_add_hidden_alias(candidates, "drafts")
