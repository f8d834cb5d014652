"""Bring the notebooks, README's badge, the tables of docs/settings.md and CONTRIBUTING's file map into committed form.

    python -m recipes.pages            # write them
    python -m recipes.pages --check    # write nothing; list the files that would change and exit with 1

A notebook gets its badge, its first and last cells and its metadata, and loses its outputs. The address of the
repository is defined once, as `Repository` in pyproject.toml; badges, links and first cells follow it.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from recipes import file_map
from vqtools.animation.settings import AnimateSettings, FlySettings, MorphSettings
from vqtools.core.settings import Settings, settings_table
from vqtools.painting.settings import PaintSettings
from vqtools.sampling.settings import SampleSettings
from vqtools.training.settings import TrainTransformerSettings, TrainVQGANSettings

ROOT = Path(__file__).parents[1]

READY_WHY = "*On Google Colab, the next cell installs what is missing. Elsewhere it does nothing.*"
READY = """# @title Setup
keep_in_drive = False  # @param {{type:"boolean"}}
release_when_done = False  # @param {{type:"boolean"}}

import importlib.util

if importlib.util.find_spec("vqtools") is None:
    %pip install -q --no-deps git+{repository}
from vqtools.ui import colab

colab.ready(drive=keep_in_drive, release=release_when_done)"""
DONE = """# releases the Colab machine if release_when_done is ticked above
colab.done()"""
METADATA: dict[str, Any] = {
    "accelerator": "GPU",
    "colab": {"gpuType": "T4", "provenance": []},
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

# the tables of docs/settings.md: a settings class and the field that is the command's argument, not a flag
TABLES: list[tuple[type[Settings], str]] = [
    (PaintSettings, "prompt"),
    (SampleSettings, "prompt"),
    (AnimateSettings, "prompt"),
    (MorphSettings, ""),
    (FlySettings, ""),
    (TrainVQGANSettings, "folder"),
    (TrainTransformerSettings, "folder"),
]


def repository() -> str:
    """Return the address of the repository, https://github.com/OWNER/REPO, from pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return str(project["urls"]["Repository"]).rstrip("/")


def colab_address(notebook: str, address: str) -> str:
    """Return the address at which Colab opens a notebook of a repository."""
    owner_and_name = address.removeprefix("https://github.com/")
    return f"https://colab.research.google.com/github/{owner_and_name}/blob/main/notebooks/{notebook}"


def make_cell(kind: str, cell_id: str, source: str, **metadata: Any) -> dict[str, Any]:
    """Return a cell without outputs, its keys in the order in which nbformat writes them."""
    cell: dict[str, Any] = {"cell_type": kind}
    if kind == "code":
        cell["execution_count"] = None
    cell |= {"id": cell_id, "metadata": metadata}
    if kind == "code":
        cell["outputs"] = []
    return cell | {"source": source.splitlines(keepends=True)}


def normalise(page: dict[str, Any], name: str, address: str) -> dict[str, Any]:
    """Return a notebook with badge, first and last cells and metadata for a repository, and without outputs."""
    old_cells = [cell for cell in page["cells"] if cell["id"] not in ("ready-why", "ready", "done")]
    cells = []
    for old in old_cells:
        cell = make_cell(old["cell_type"], old["id"], "".join(old["source"]), **old["metadata"])
        if "attachments" in old and old is not old_cells[0]:
            cell["attachments"] = old["attachments"]
        cells.append(cell)
    ready = [
        make_cell("markdown", "ready-why", READY_WHY),
        make_cell("code", "ready", READY.format(repository=address), cellView="form", jupyter={"source_hidden": True}),
    ]
    start = _first_section(cells)
    cells = [_title_cell(cells[0], name, address), *cells[1:start], *ready, *cells[start:]]
    return {
        "cells": [*cells, make_cell("code", "done", DONE)],
        "metadata": METADATA,
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _title_cell(cell: dict[str, Any], name: str, address: str) -> dict[str, Any]:
    """Return the first cell with the badge below its title, and links into the repository at this address."""
    badge = f"[![Open in Colab](attachment:colab.png)]({colab_address(name, address)})"
    lines = [line for line in "".join(cell["source"]).splitlines() if not line.startswith("[![Open in Colab]")]
    text = "\n".join(lines).replace("\n\n\n", "\n\n")
    text = re.sub(r"https://github\.com/[\w.-]+/[\w.-]+/blob/main/", f"{address}/blob/main/", text)
    title, _, body = text.partition("\n")
    image = base64.b64encode((ROOT / "docs/pictures/colab.png").read_bytes()).decode()
    titled = make_cell("markdown", cell["id"], f"{title}\n\n{badge}\n\n{body.strip()}")
    return {"attachments": {"colab.png": {"image/png": image}}} | titled


def _first_section(cells: list[dict[str, Any]]) -> int:
    """Return the index before which the setup cells go: the prose above the first code cell."""
    start = next(i for i, cell in enumerate(cells) if cell["cell_type"] == "code")
    while start > 1 and cells[start - 1]["cell_type"] == "markdown":
        start -= 1
    return start + 1 if cells[start]["id"] == "how" else start  # "how" belongs to the introduction


def readme(text: str, address: str) -> str:
    """Return the README with the badge that opens notebook 04, in the line after its mark."""
    badge = f"[![Open in Colab](docs/pictures/colab.png)]({colab_address('04_paint.ipynb', address)})"
    return re.sub(r"(?<=<!-- badge -->\n).*", badge, text)


def settings_page(text: str) -> str:
    """Return docs/settings.md with the table between each pair of marks generated from its settings class."""
    for settings_class, argument in TABLES:
        mark = f"<!-- settings: {settings_class.__name__} -->\n"
        before, _, rest = text.partition(mark)
        _, end, after = rest.partition("<!-- end -->")
        if not end:
            raise ValueError(f"docs/settings.md has no table marked {mark.strip()}")
        text = before + mark + settings_table(settings_class, argument) + end + after
    return text


def packages() -> list[str]:
    """Return the packages of vqtools from the highest layer to the lowest, as pyproject.toml's contract orders them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    names = [name.strip().removeprefix("vqtools.") for layer in layers for name in layer.split("|")]
    return [name for name in names if name != "version"]


def to_text(page: dict[str, Any]) -> str:
    """Return a notebook as text, formatted as Jupyter writes it."""
    return json.dumps(page, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def expected_files() -> dict[Path, str]:
    """Return the expected text of each file that this script writes."""
    settings, title_page, contributing = ROOT / "docs/settings.md", ROOT / "README.md", ROOT / "CONTRIBUTING.md"
    expected = {
        contributing: file_map.contributing(contributing.read_text("utf-8"), ROOT, packages()),
        title_page: readme(title_page.read_text("utf-8"), repository()),
        settings: settings_page(settings.read_text("utf-8")),
    }
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        expected[path] = to_text(normalise(json.loads(path.read_text("utf-8")), path.name, repository()))
    return expected


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file would change")
    check = parser.parse_args().check
    outdated = {path: text for path, text in expected_files().items() if path.read_text("utf-8") != text}
    if not check:
        for path, text in outdated.items():
            path.write_text(text, "utf-8")
    print(f"{'out of date' if check else 'written'}: {', '.join(path.name for path in outdated) or 'none'}")
    return 1 if check and outdated else 0


if __name__ == "__main__":
    sys.exit(main())
