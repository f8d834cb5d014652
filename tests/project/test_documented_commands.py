"""Every command line in the README, docs and notebooks names a command and flags that --help lists."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from vqtools.cli.main import command as vqtools

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "notebooks").glob("*.ipynb"))]


def command_lines(text: str) -> Iterator[list[str]]:
    """The words after `vqtools` in fenced blocks and in code spans, which may run over a line's end."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    for line in [*lines, *(" ".join(span.split()) for span in spans)]:
        for part in line.split("&&"):
            found = re.search(r"(?:^|!|-m )\s*vqtools +(.+)", part.strip())
            if found:
                yield shlex.split(found[1], comments=True)


def unknown_words(words: list[str]) -> list[str]:
    """The command, or the flags, that nobody could find in --help."""
    name, *rest = [word for word in words if word != "…"]
    if name.startswith("-") or name.isupper():  # vqtools --help
        return []
    command = vqtools.commands.get(name)
    if command is None or command.hidden:
        return [name]
    if isinstance(command, click.Group) and rest and rest[0] in command.commands:
        command = command.commands[rest[0]]
    parameters = command.get_params(click.Context(command))
    listed = {
        flag for one in parameters if not getattr(one, "hidden", False) for flag in (*one.opts, *one.secondary_opts)
    }
    return [word for word in rest if re.match(r"-{1,2}[a-z]", word) and word not in listed]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_documented_command_exists(page: Path) -> None:
    text = page.read_text("utf-8")
    if page.suffix == ".ipynb":
        text = "\n\n".join(
            "".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"
        )
    for words in command_lines(text):
        assert unknown_words(words) == [], f"vqtools {shlex.join(words)}"


def test_renamed_commands_and_flags_are_found() -> None:
    text = "```\nvqtools drafts a\n```\n`vqtools paint --drawer\npixels --cutouts 4`"
    assert [unknown_words(words) for words in command_lines(text)] == [["drafts"], ["--drawer"]]
    assert len([words for page in PAGES for words in command_lines(page.read_text("utf-8"))]) > 60
