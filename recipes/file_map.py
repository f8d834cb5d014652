"""The file map in CONTRIBUTING.md: every module of vqtools with the first sentence of its docstring.

`python -m recipes.pages` writes it. Knows syntax trees; imports none of the modules.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

START, END = "<!-- files -->\n", "<!-- end of files -->"


def contributing(text: str, root: Path, packages: list[str]) -> str:
    """Return CONTRIBUTING.md with the map between its marks made anew. packages: the order of the sections."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"CONTRIBUTING.md has no marks {START.strip()} and {END}")
    return before + start + file_map(root, packages) + end + after


def file_map(root: Path, packages: list[str]) -> str:
    """Return the map in Markdown: the modules of `vqtools` itself, then one section a package."""
    sections = [_section("vqtools", root / "vqtools", sorted((root / "vqtools").glob("*.py")))]
    for package in packages:
        folder = root / "vqtools" / package
        modules = sorted(path for path in folder.rglob("*.py") if path.name != "__init__.py")
        sections.append(_section(f"vqtools/{package}", folder, modules))
    return "\n".join(sections)


def mapped_files(text: str) -> list[str]:
    """Return the paths in the map of CONTRIBUTING.md, such as `vqtools/core/job.py`."""
    sections = re.findall(r"^\*\*(\S+)/\*\*\n\n```\n(.*?)```", text.partition(START)[2], re.MULTILINE | re.DOTALL)
    return [f"{folder}/{line.split()[0]}" for folder, block in sections for line in block.splitlines()]


def _section(title: str, folder: Path, modules: list[Path]) -> str:
    names = [path.relative_to(folder).as_posix() for path in modules]
    width = max(map(len, names)) + 2
    rows = [f"{name:{width}}{_first_sentence(path)}" for name, path in zip(names, modules, strict=True)]
    return f"**{title}/**\n\n```\n" + "\n".join(rows) + "\n```\n"


def _first_sentence(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    paragraph = " ".join(docstring.partition("\n\n")[0].split())
    return re.split(r"(?<=[a-z0-9)`\]])\. (?=[A-Z])", paragraph)[0].rstrip(".")
