"""The command `vqtools info`: versions, device, memory and folders, to paste into a bug report."""

from __future__ import annotations

import click

from vqtools.cli.options import debug_option
from vqtools.core.errors import UserError
from vqtools.version import __version__


@click.command()
@debug_option
def info() -> None:
    """Show versions, device, memory, and the folders of models and notebooks."""
    import platform

    from vqtools.core.device import choose_machine
    from vqtools.core.paths import home_folder, notebooks_folder

    rows = [("vqtools", __version__), ("python", f"{platform.python_version()} on {platform.platform()}")]
    packages = ("torch", "open_clip_torch", "kornia", "ipywidgets", "jupyterlab")
    rows += [(package, _package_version(package)) for package in packages]
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
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf, macOS no SC_AVPHYS_PAGES
        return "unknown"
    return f"{total / 2**30:.1f} GB, {free / 2**30:.1f} GB free"
