"""TODO: what this module is.

Split from vqtools.cli.
"""

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

    They are copied into FOLDER (vqtools-notebooks if none is named), where your own changes are never overwritten.
    Flags like --no-browser go on to JupyterLab.
    """
    import importlib.util
    import subprocess

    from vqtools.core.files import check_writable
    from vqtools.core.paths import copy_notebooks

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
