"""Building blocks of prompts: words for styles, media and light, by name, in a plain file that a person can edit.

Knows that file and prompts; nothing about what is painted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from vqtools.core.errors import UserError, did_you_mean, shorten
from vqtools.core.paths import home_folder
from vqtools.painting import prompts
from vqtools.painting.prompts import format_prompts, parse_prompts

SHIPPED_FILE = Path(__file__).with_name("blocks.txt")
_MAX_BYTES = 2**20

Blocks = dict[str, dict[str, str]]
"""Texts by name, by group, in the file's order."""


def user_file() -> Path:
    """Where a person's own file lies, if there is one; without it the shipped blocks are used."""
    return home_folder() / "blocks.txt"


def create_user_file() -> Path:
    """The file to edit: begun with the shipped blocks where there is none yet."""
    path = user_file()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SHIPPED_FILE.read_text("utf-8"), "utf-8")
    return path


def load_blocks(path: Path | None = None) -> Blocks:
    """The blocks of a file: a person's own, else those that ship. UserError names the line that can't be read."""
    path = path or (user_file() if user_file().exists() else SHIPPED_FILE)
    found: Blocks = {}
    group = "blocks"
    for number, line in enumerate(read_text(path).splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if heading := re.fullmatch(r"\[(.+)\]", line):
            group = heading[1].strip()
            continue
        name, equals, text = (part.strip() for part in line.partition("="))
        if not equals or not text or not re.fullmatch(r"[\w-]+", name):
            raise UserError(f"{path}, line {number}: {shorten(line)} is no block; write NAME = TEXT, or [GROUP]")
        try:
            parse_prompts(text.removeprefix("|"))
        except UserError as error:
            raise UserError(f"{path}, line {number}: {error}") from None
        found.setdefault(group, {})[name] = text
    return found


def add_blocks(prompt: str, names: Iterable[str], blocks: Blocks | None = None) -> str:
    """A prompt with blocks added: to each text that is asked for, or beside them as prompts of their own.

    >>> add("a castle:1.5 | blur:-0.3", ["oil", "no-frame"], {"a": {"oil": "in oil", "no-frame": "| a frame:-0.3"}})
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
                prompts.Prompt(f"{one.text}, {text}", one.weight, one.stop)
                if one.weight > 0 and one.picture is None
                else one
                for one in parsed
            ]
    return format_prompts(parsed)


def read_prompt_file(path: str | Path) -> list[str]:
    """The prompts of a text file, one a line; empty lines and those that begin with # are passed over."""
    path = Path(path)
    found = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            parse_prompts(line)
        except UserError as error:
            raise UserError(f"{path}, line {number}: {error}") from None
        found.append(line.strip())
    if not found:
        raise UserError(f"{path} holds no prompt; write one a line")
    return found


def read_text(path: Path) -> str:
    """A text file's content; UserError where it can't be read."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UserError(f"{path} is larger than a text of a megabyte; expected a file with a line for each")
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path} is not there") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text in UTF-8; save it as one") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from None
