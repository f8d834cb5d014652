"""The list of known networks: weights.txt, read into records.

Knows names, places and licences; downloads and opens nothing.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from vqtools.settings import UserError, near, shorten

Kind = Literal["vqgan", "clip", "transformer"]
_HERE = Path(__file__).resolve().parent
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEYS = (
    "name", "kind", "path", "url", "sha256", "bytes", "licence", "trained on", "source", "config url", "config sha256",
)  # fmt: skip


@dataclass(frozen=True)
class Record:
    """One network. `file` is where it lies when it comes with the program, or None when it must be fetched."""

    name: str
    kind: Kind
    file: Path | None = None
    urls: tuple[str, ...] = ()
    sha256: str = ""
    bytes: int | None = None
    licence: str = ""
    trained_on: str = ""
    source: str = ""
    config_url: str = ""
    config_sha256: str = ""


def home() -> Path:
    """Where models that a person makes or downloads live: VQTOOLS_HOME, else the user's cache folder."""
    if chosen := os.environ.get("VQTOOLS_HOME"):
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("vqtools", appauthor=False))


def shipped() -> Path:
    """The weights.txt that came with the program: beside this file in a wheel, at the top of a checkout."""
    inside = _HERE / "weights.txt"
    return inside if inside.is_file() else _HERE.parent.parent / "weights.txt"


def records() -> list[Record]:
    """All known networks: the shipped list, then the person's own in `home()`, whose entries replace equal names."""
    known = {(one.kind, one.name): one for one in read(shipped(), _HERE)}
    own = home() / "weights.txt"
    if own.is_file():
        known.update({(one.kind, one.name): one for one in read(own, home())})
    return list(known.values())


def find(kind: Kind, name: str) -> Record:
    """The record of a name; UserError names the near ones."""
    names = {one.name: one for one in records() if one.kind == kind}
    if name not in names:
        raise UserError(f"there is no {kind} named {shorten(name)}{near(name, names)}")
    return names[name]


def read(path: Path, folder: Path) -> list[Record]:
    """The records of a file; their paths are taken from `folder`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text; save it as UTF-8") from None
    return parse(text, folder, str(path))


def parse(text: str, folder: Path, origin: str = "weights.txt") -> list[Record]:
    """Blocks of `key: value` lines, empty lines between them, # before remarks -> records."""
    found: list[Record] = []
    block: list[tuple[int, str, str]] = []
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        line = line.strip()
        if line.startswith("#"):
            continue
        if line:
            key, colon, value = line.partition(":")
            if not colon or not value.strip():
                raise UserError(f"{origin} line {number}: {shorten(line)} is not `key: value`")
            block.append((number, key.strip().lower(), value.strip()))
        elif block:
            record = _record(block, folder, origin)
            if any((one.kind, one.name) == (record.kind, record.name) for one in found):
                raise UserError(f"{origin} line {block[0][0]}: a second record of the {record.kind} {record.name}")
            found.append(record)
            block = []
    return found


def _record(block: list[tuple[int, str, str]], folder: Path, origin: str) -> Record:
    values: dict[str, str] = {}
    urls: list[str] = []
    for number, key, value in block:
        where = f"{origin} line {number}"
        if key not in _KEYS:
            raise UserError(f"{where}: there is no key {shorten(key)}{near(key, _KEYS)}")
        if key == "url":
            urls.append(value)
            continue
        if key in values:
            raise UserError(f"{where}: {key} stands twice in one record")
        _check(key, value, where)
        values[key] = value
    first = f"{origin} line {block[0][0]}"
    for key in ("name", "kind"):
        if key not in values:
            raise UserError(f"{first}: this record has no {key}")
    if not urls and "path" not in values:
        raise UserError(f"{first}: {values['name']} has neither a path nor a url")
    return Record(
        name=values["name"],
        kind=cast(Kind, values["kind"]),
        file=folder / values["path"] if "path" in values else None,
        urls=tuple(urls),
        sha256=values.get("sha256", "").lower(),
        bytes=int(values["bytes"]) if "bytes" in values else None,
        licence=values.get("licence", ""),
        trained_on=values.get("trained on", ""),
        source=values.get("source", ""),
        config_url=values.get("config url", ""),
        config_sha256=values.get("config sha256", "").lower(),
    )


def _check(key: str, value: str, where: str) -> None:
    if key == "kind" and value not in get_args(Kind):
        raise UserError(f"{where}: kind {shorten(value)} is none of {', '.join(get_args(Kind))}")
    if key == "name" and not _NAME.fullmatch(value):
        raise UserError(f"{where}: name {shorten(value)} may hold letters, digits, dots and dashes only")
    if key in ("sha256", "config sha256") and not _SHA256.fullmatch(value.lower()):
        raise UserError(f"{where}: {key} {shorten(value)} is not 64 hexadecimal digits")
    if key == "bytes" and not (value.isascii() and value.isdigit()):
        raise UserError(f"{where}: bytes {shorten(value)} is not a whole number")
