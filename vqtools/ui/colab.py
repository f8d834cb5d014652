"""Pages that run elsewhere than at home: what the machine lacks is brought, and what is to last goes into Drive.

Knows pip, Colab and Drive; nothing about networks. Imports nothing that may be missing: it is what brings it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

DRIVE = Path("/content/drive")
RELEASE_DELAY_SECONDS = 60  # seconds in which a person may still keep the machine

# what a page can do without: Colab is the notebook server already
NOT_INSTALLED = {"jupyterlab"}

_asked_to_let_go = False


def on_colab() -> bool:
    """Whether this kernel runs on Google's Colab."""
    try:
        return importlib.util.find_spec("google.colab") is not None
    except ModuleNotFoundError:  # there is not even a `google`
        return False


def ready(*, drive: bool = False, release: bool = False) -> None:
    """Make a page ready to run: on any machine what is missing is installed, on Colab the rest too.

    drive: keep models and everything that is made in the folder `vqtools` of your Google Drive, so that they outlast
    the machine and the second visit starts at once. release: `done()` in the last cell lets the machine go. Both are
    for Colab, and nothing elsewhere. Called again it changes nothing.
    """
    global _asked_to_let_go
    install(missing_requirements(requirements(), installed_versions()))
    _asked_to_let_go = False
    if not on_colab():
        return
    from vqtools.core.errors import UserError
    from vqtools.core.paths import copy_notebooks

    if release and not drive:
        raise UserError("let_go_when_done would throw away what was made; tick keep_in_drive too, so that it lasts")
    _google("output").enable_custom_widget_manager()
    if drive:
        _mount_drive()
    copy_notebooks(Path.cwd(), lambda path: path.suffix != ".ipynb")  # a badge opens a page without what lies beside it
    _asked_to_let_go = release


def _google(name: str) -> Any:
    """A module of google.colab, which exists there alone."""
    return importlib.import_module(f"google.colab.{name}")


def _mount_drive() -> None:
    """Mount Drive, and make its folder `vqtools` the place where models are kept and pages write."""
    _google("drive").mount(str(DRIVE))
    folder = DRIVE / "MyDrive" / "vqtools"
    (folder / "models").mkdir(parents=True, exist_ok=True)
    os.environ["VQTOOLS_HOME"] = str(folder / "models")
    os.chdir(folder)


def done() -> None:
    """The last cell of a page: lets Colab's machine go if `ready` was asked to; interrupt it to keep the machine."""
    if not (_asked_to_let_go and on_colab()):
        return
    _print_line(
        f"All is in Drive. The machine is let go in {RELEASE_DELAY_SECONDS} seconds; interrupt this cell to keep it."
    )
    try:
        time.sleep(RELEASE_DELAY_SECONDS)
    except KeyboardInterrupt:
        _print_line("Kept.")
        return
    _google("drive").flush_and_unmount()  # what is still on its way to Drive would be lost
    _google("runtime").unassign()


def _print_line(text: str) -> None:
    sys.stdout.write(text + "\n")


def requirements() -> list[str]:
    """What vqtools needs, as its metadata says it, without the extras; [] where it runs from a folder, uninstalled."""
    try:
        listed = metadata.requires("vqtools") or []
    except metadata.PackageNotFoundError:
        return []
    return [one for one in listed if "extra ==" not in one]


def installed_versions() -> dict[str, str]:
    """Versions of all distributions of this Python, by name."""
    found = {one.metadata["Name"]: one.version for one in metadata.distributions() if one.metadata["Name"]}
    return {normalised_name(name): version for name, version in found.items()}


def normalised_name(requirement: str) -> str:
    """`Open_CLIP.torch>=2.30` -> open-clip-torch, as PyPI compares names."""
    found = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", requirement.strip())
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""


def missing_requirements(wanted: Iterable[str], here: Iterable[str]) -> list[str]:
    """The requirements that nothing installed answers to; their versions are not looked at."""
    known = set(here) | NOT_INSTALLED
    return [one for one in wanted if normalised_name(one) not in known]


def pip_constraints(here: Mapping[str, str]) -> str:
    """What pip is held to: everything that is installed stays as it is, for a running kernel would break."""
    return "".join(f"{name}=={version}\n" for name, version in sorted(here.items()))


def install(missing: list[str]) -> None:
    """Install requirements and what they need, and change nothing that is there. RuntimeError says why it can't be."""
    if not missing:
        return
    _print_line(f"installing {', '.join(map(normalised_name, missing))}; nothing that is here is changed")
    with tempfile.TemporaryDirectory() as folder:
        held = Path(folder, "constraints.txt")
        held.write_text(pip_constraints(installed_versions()), "utf-8")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        ran = subprocess.run(
            [*command, "--constraint", str(held), *missing], capture_output=True, text=True, check=False
        )
    if ran.returncode:
        why = [line for line in ran.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
        raise RuntimeError(f"{', '.join(map(normalised_name, missing))} can't be installed here: {why[-1]}")
    importlib.invalidate_caches()
