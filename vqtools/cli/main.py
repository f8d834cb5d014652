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


COMMAND_GROUPS: dict[str, dict[click.Command, str]] = {
    "Make pictures": {
        paint: "Paint a picture from a prompt.",
        candidates: "Paint one prompt with several seeds, to choose from.",
        grid: "Paint a labelled grid that compares settings.",
        sample: "Sample a picture of any size from a transformer.",
        queue: "Paint every settings file and PNG in a folder.",
        upscale: "Enlarge a picture with an upscaling network.",
    },
    "Make videos": {
        animate: "Make a zoom, a camera move or a restyled video.",
        morph: "Morph pictures into one another.",
        fly: "Move the camera over one large picture.",
    },
    "Train": {
        train_vqgan: "Train a VQGAN on your pictures (stage 1).",
        train_transformer: "Train a transformer on their codes (stage 2).",
        score: "Compute a picture's likelihood under a transformer.",
    },
    "Networks": {
        weights: "List, download and convert networks.",
    },
    "Tools": {
        presets: "Show what the presets mean on this machine.",
        blocks: "List texts to add to prompts.",
        lab: "Open JupyterLab on a copy of the notebooks.",
        info: "Show versions, device, memory and folders.",
    },
}
"""The commands with one line each, as `vqtools --help` shows them."""


class GroupedCommands(click.Group):
    """A group whose help lists its commands under headings, one uncut line each."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write one section for each entry of COMMAND_GROUPS."""
        for title, commands in COMMAND_GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(shown.name or "", line) for shown, line in commands.items()])


@click.group(cls=GroupedCommands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
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


for _command in (name for names in COMMAND_GROUPS.values() for name in names):
    command.add_command(_command)
_add_hidden_alias(candidates, "drafts")
