"""Prompt blocks: words for styles, media and light, by name, in a plain text file that users can edit.

Knows that file and prompts; nothing about what is painted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from vqtools.core.errors import UserError, did_you_mean, shorten
from vqtools.core.paths import home_folder
from vqtools.painting.prompts import format_prompts, parse_prompts

SHIPPED_FILE = Path(__file__).with_name("blocks.txt")
_MAX_BYTES = 2**20

Blocks = dict[str, dict[str, str]]
"""Texts by name, by group, in the order of the file."""


def user_file() -> Path:
    """The path of the user's own file, which replaces the shipped blocks if it exists."""
    return home_folder() / "blocks.txt"


def create_user_file() -> Path:
    """Create the user's own file with the shipped blocks if it does not exist; returns its path."""
    path = user_file()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SHIPPED_FILE.read_text("utf-8"), "utf-8")
    return path


def load_blocks(path: Path | None = None) -> Blocks:
    """Read the blocks of a file, by default the user's own, else the shipped one. UserError names an invalid line."""
    path = path or (user_file() if user_file().exists() else SHIPPED_FILE)
    blocks: Blocks = {}
    group = "blocks"
    for number, raw_line in enumerate(read_text(path).splitlines(), 1):
        line = raw_line.strip()
        if not line or line.startswith("#"):
            continue
        if heading := re.fullmatch(r"\[(.+)\]", line):
            group = heading[1].strip()
            continue
        name, equals, text = (part.strip() for part in line.partition("="))
        if not equals or not text or not re.fullmatch(r"[\w-]+", name):
            raise UserError(f"{path}, line {number}: {shorten(line)} is not a block; write NAME = TEXT, or [GROUP]")
        try:
            parse_prompts(text.removeprefix("|"))
        except UserError as error:
            raise UserError(f"{path}, line {number}: {error}") from None
        blocks.setdefault(group, {})[name] = text
    return blocks


def add_blocks(prompt: str, names: Iterable[str], blocks: Blocks | None = None) -> str:
    """Add blocks to a prompt: their text to each text with a positive weight, or prompts of their own after a ``|``.

    >>> blocks = {"styles": {"oil": "in oil", "no-frame": "| a frame:-0.3"}}
    >>> add_blocks("a castle:1.5 | blur:-0.3", ["oil", "no-frame"], blocks)
    'a castle, in oil:1.5 | blur:-0.3 | a frame:-0.3'
    """
    known = {
        name: text for group in (load_blocks() if blocks is None else blocks).values() for name, text in group.items()
    }
    parsed = parse_prompts(prompt)
    for name in names:
        if name not in known:
            raise UserError(f"there is no block {name!r}{did_you_mean(name, known)}")
        text = known[name]
        if text.startswith("|"):
            parsed += parse_prompts(text[1:])
        else:
            parsed = [
                replace(prompt, text=f"{prompt.text}, {text}") if prompt.weight > 0 and not prompt.picture else prompt
                for prompt in parsed
            ]
    return format_prompts(parsed)


def read_prompt_file(path: str | Path) -> list[str]:
    """The prompts of a text file, one per line; empty lines and those that start with # are skipped."""
    path = Path(path)
    prompts = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            parse_prompts(line)
        except UserError as error:
            raise UserError(f"{path}, line {number}: {error}") from None
        prompts.append(line.strip())
    if not prompts:
        raise UserError(f"{path} has no prompt; write one per line")
    return prompts


def read_text(path: Path) -> str:
    """The content of a text file in UTF-8; UserError if it cannot be read or has more than 1 MB."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UserError(f"{path} has more than 1 MB; expected a text file with one entry per line")
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text in UTF-8; save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from None
