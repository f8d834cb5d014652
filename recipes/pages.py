"""Make every notebook fit to be committed: badge, first and last cells, metadata, no outputs. Also writes the README's
badge and the tables of docs/settings.md.

    python -m recipes.pages            # write them
    python -m recipes.pages --check    # say which are not as they should be

The address of the repository stands in one place, `Repository` in pyproject.toml; badges and first cells follow it.
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

from vqtools.animation.settings import AnimateSettings, FlySettings, MorphSettings
from vqtools.core.settings import Settings, settings_table
from vqtools.painting.settings import PaintSettings
from vqtools.sampling.settings import SampleSettings
from vqtools.training.settings import TrainTransformerSettings, TrainVQGANSettings

ROOT = Path(__file__).parents[1]

READY_WHY = "*On Google Colab, the next cell installs what is missing. Elsewhere it does nothing.*"
READY = """# @title Make ready
keep_in_drive = False  # @param {{type:"boolean"}}
let_go_when_done = False  # @param {{type:"boolean"}}

import importlib.util

if importlib.util.find_spec("vqtools") is None:
    %pip install -q --no-deps git+{repository}
from vqtools.ui import colab

colab.ready(drive=keep_in_drive, release=let_go_when_done)"""
DONE = """# lets Colab's machine go, if that was asked for above
colab.done()"""
METADATA: dict[str, Any] = {
    "accelerator": "GPU",
    "colab": {"gpuType": "T4", "provenance": []},
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

# the tables of docs/settings.md: a class and the field that is the command's argument, not a flag
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
    """The address of the repository: https://github.com/OWNER/REPO."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return str(project["urls"]["Repository"]).rstrip("/")


def colab_address(notebook: str, address: str) -> str:
    """Where Colab opens a notebook of a repository."""
    owner_and_name = address.removeprefix("https://github.com/")
    return f"https://colab.research.google.com/github/{owner_and_name}/blob/main/notebooks/{notebook}"


def cell(kind: str, name: str, source: str, **metadata: Any) -> dict[str, Any]:
    """A cell without outputs, its keys in the order in which nbformat writes them."""
    made: dict[str, Any] = {"cell_type": kind}
    if kind == "code":
        made["execution_count"] = None
    made |= {"id": name, "metadata": metadata}
    if kind == "code":
        made["outputs"] = []
    return made | {"source": source.splitlines(keepends=True)}


def normal(page: dict[str, Any], name: str, address: str) -> dict[str, Any]:
    """A notebook with the house's badge, first and last cells and metadata, and without outputs."""
    old = [one for one in page["cells"] if one["id"] not in ("ready-why", "ready", "done")]
    cells = []
    for one in old:
        kept = cell(one["cell_type"], one["id"], "".join(one["source"]), **one["metadata"])
        if "attachments" in one and one is not old[0]:
            kept["attachments"] = one["attachments"]
        cells.append(kept)
    badge = f"[![Open in Colab](attachment:colab.png)]({colab_address(name, address)})"
    lines = [line for line in "".join(cells[0]["source"]).splitlines() if not line.startswith("[![Open in Colab]")]
    text = "\n".join(lines).replace("\n\n\n", "\n\n")
    text = re.sub(r"https://github\.com/[\w.-]+/[\w.-]+/blob/main/", f"{address}/blob/main/", text)
    title, _, rest = text.partition("\n")
    drawing = base64.b64encode((ROOT / "docs/pictures/colab.png").read_bytes()).decode()
    first = cell("markdown", cells[0]["id"], f"{title}\n\n{badge}\n\n{rest.strip()}")
    first = {"attachments": {"colab.png": {"image/png": drawing}}} | first
    at = next(i for i, one in enumerate(cells) if one["cell_type"] == "code")
    while at > 1 and cells[at - 1]["cell_type"] == "markdown":  # before the prose of the first cell, after the promise
        at -= 1
    if cells[at]["id"] == "how":
        at += 1
    ready = [
        cell("markdown", "ready-why", READY_WHY),
        cell("code", "ready", READY.format(repository=address), cellView="form", jupyter={"source_hidden": True}),
    ]
    done = cell("code", "done", DONE)
    cells = [first, *cells[1:at], *ready, *cells[at:], done]
    return {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}


def readme(text: str, address: str) -> str:
    """The README with the badge that opens page 04, in the line after its mark."""
    badge = f"[![Open in Colab](docs/pictures/colab.png)]({colab_address('04_paint.ipynb', address)})"
    return re.sub(r"(?<=<!-- badge -->\n).*", badge, text)


def settings_page(text: str) -> str:
    """docs/settings.md with each table between its marks made anew from the settings class."""
    for settings_class, argument in TABLES:
        mark = f"<!-- settings: {settings_class.__name__} -->\n"
        before, _, rest = text.partition(mark)
        _, end, after = rest.partition("<!-- end -->")
        if not end:
            raise ValueError(f"docs/settings.md has no table marked {mark.strip()}")
        text = before + mark + settings_table(settings_class, argument) + end + after
    return text


def written(page: dict[str, Any]) -> str:
    """A notebook as text, as Jupyter writes it."""
    return json.dumps(page, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; 1 where something would change")
    check = parser.parse_args().check
    changed = []
    wanted = {ROOT / "README.md": readme((ROOT / "README.md").read_text("utf-8"), repository())}
    settings = ROOT / "docs/settings.md"
    wanted[settings] = settings_page(settings.read_text("utf-8"))
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        wanted[path] = written(normal(json.loads(path.read_text("utf-8")), path.name, repository()))
    for path, text in wanted.items():
        if path.read_text("utf-8") != text:
            changed.append(path.name)
            if not check:
                path.write_text(text, "utf-8")
    print(f"{'not as they should be' if check else 'written'}: {', '.join(changed) or 'none'}")
    return 1 if check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
