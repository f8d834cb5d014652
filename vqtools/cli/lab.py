"""The command `vqtools lab`: JupyterLab on a copy of the notebooks. Knows folders and processes, not the notebooks."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click

from vqtools.cli.options import debug_option
from vqtools.core.errors import UserError


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[FOLDER] [JUPYTER'S FLAGS]")
@debug_option
def lab(arguments: tuple[str, ...]) -> int:
    """Open JupyterLab on a copy of the notebooks.

    They are copied into FOLDER (default: vqtools-notebooks), and notebooks that are there already are not overwritten.
    Other flags, like --no-browser, are passed on to JupyterLab.
    """
    import importlib.util
    import subprocess

    from vqtools.core.files import check_writable
    from vqtools.core.paths import copy_notebooks

    named = bool(arguments) and not arguments[0].startswith("-")
    folder = Path(arguments[0] if named else "vqtools-notebooks")
    if importlib.util.find_spec("jupyterlab") is None:
        raise UserError("JupyterLab is not installed; install it with: pip install jupyterlab")
    check_writable(folder)
    copied, kept = copy_notebooks(folder)
    click.echo(f"notebooks in {folder}: {copied} copied, {kept} of yours kept", err=True)
    # JupyterLab handles Ctrl-C itself; unlike SIG_IGN, a handler of ours is not inherited by it
    before = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    try:
        return subprocess.call([sys.executable, "-m", "jupyterlab", *arguments[named:]], cwd=folder)
    finally:
        signal.signal(signal.SIGINT, before)
