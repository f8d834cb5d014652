"""Prepare a machine for a notebook: install missing packages and, on Colab, keep results in Drive.

Knows pip, Colab and Drive; nothing about networks. Imports only the standard library at the top, since the rest may be
missing before it has run.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

DRIVE = Path("/content/drive")
RELEASE_DELAY_SECONDS = 60  # in which the release of the machine can still be interrupted
NOT_INSTALLED = frozenset({"jupyterlab"})  # Colab is a notebook server itself

_release_requested = threading.Event()


def on_colab() -> bool:
    """Whether this kernel runs on Google Colab."""
    try:
        return importlib.util.find_spec("google.colab") is not None
    except ModuleNotFoundError:  # there is no package `google` either
        return False


def ready(*, drive: bool = False, release: bool = False) -> None:
    """Install missing packages; on Colab, also enable widgets and fetch the files beside the notebook.

    drive: keep models and results in the folder `vqtools` of Google Drive, so that they outlast the machine and the
    next visit starts at once. release: `done()` in the last cell releases the machine. Both apply to Colab alone.
    Calling it again changes nothing. Raises UserError for ``release`` without ``drive``.
    """
    install(missing_requirements(requirements(), installed_versions()))
    _release_requested.clear()
    if not on_colab():
        return
    from vqtools.core.errors import UserError
    from vqtools.core.paths import copy_notebooks

    if release and not drive:
        raise UserError("release_when_done would discard all results; tick keep_in_drive too")
    _google("output").enable_custom_widget_manager()
    if drive:
        _mount_drive()
    copy_notebooks(Path.cwd(), lambda path: path.suffix != ".ipynb")  # a badge opens the notebook alone
    if release:
        _release_requested.set()


def _google(name: str) -> Any:
    """A module of google.colab, which exists only on Colab."""
    return importlib.import_module(f"google.colab.{name}")


def _mount_drive() -> None:
    """Mount Drive and use its folder `vqtools` for models and as the working directory."""
    _google("drive").mount(str(DRIVE))
    folder = DRIVE / "MyDrive" / "vqtools"
    (folder / "models").mkdir(parents=True, exist_ok=True)
    os.environ["VQTOOLS_HOME"] = str(folder / "models")
    os.chdir(folder)


def done() -> None:
    """Release Colab's machine, in the last cell, if `ready` was told to; interrupt the cell to keep it."""
    if not (_release_requested.is_set() and on_colab()):
        return
    seconds = RELEASE_DELAY_SECONDS
    _print_line(
        f"All results are in Drive. The machine is released in {seconds} seconds; interrupt this cell to keep it."
    )
    try:
        time.sleep(RELEASE_DELAY_SECONDS)
    except KeyboardInterrupt:
        _print_line("Kept.")
        return
    _google("drive").flush_and_unmount()  # files that are not uploaded yet would be lost
    _google("runtime").unassign()


def _print_line(text: str) -> None:
    sys.stdout.write(text + "\n")


def requirements() -> list[str]:
    """The requirements in the metadata of vqtools, without the extras; [] if it is not installed."""
    try:
        listed = metadata.requires("vqtools") or []
    except metadata.PackageNotFoundError:
        return []
    return [requirement for requirement in listed if "extra ==" not in requirement]


def installed_versions() -> dict[str, str]:
    """Versions of all installed distributions by normalised name."""
    named = ((found.metadata["Name"], found.version) for found in metadata.distributions())
    return {normalised_name(name): version for name, version in named if name}


def normalised_name(requirement: str) -> str:
    """The name of a requirement as PyPI compares it: `Open_CLIP.torch>=2.30` -> `open-clip-torch`."""
    match = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", requirement.strip())
    return re.sub(r"[-_.]+", "-", match[0]).lower() if match else ""


def missing_requirements(required: Iterable[str], installed: Iterable[str]) -> list[str]:
    """The requirements that are not installed, whatever their version."""
    known = set(installed) | NOT_INSTALLED
    return [requirement for requirement in required if normalised_name(requirement) not in known]


def pip_constraints(installed: Mapping[str, str]) -> str:
    """Constraints that keep every installed version: changing one would break the running kernel."""
    return "".join(f"{name}=={version}\n" for name, version in sorted(installed.items()))


def install(missing: list[str]) -> None:
    """Install requirements without changing what is installed. Raises RuntimeError if pip fails."""
    if not missing:
        return
    _print_line(f"installing {', '.join(map(normalised_name, missing))}; installed packages stay as they are")
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "constraints.txt")
        constraints.write_text(pip_constraints(installed_versions()), "utf-8")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        process = subprocess.run(
            [*command, "--constraint", str(constraints), *missing], capture_output=True, text=True, check=False
        )
    if process.returncode:
        errors = [line for line in process.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
        raise RuntimeError(f"{', '.join(map(normalised_name, missing))} can't be installed here: {errors[-1]}")
    importlib.invalidate_caches()
