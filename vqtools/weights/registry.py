"""The list of known networks: weights.txt, read into records.

Knows names, places and licences; downloads nothing, and opens no network: it is quick, without torch.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args
from urllib.parse import unquote

from vqtools.core.errors import UserError, did_you_mean, shorten
from vqtools.core.paths import home_folder

NetworkKind = Literal["vqgan", "clip", "transformer", "perceptual"]
_HERE = Path(__file__).resolve().parent
_NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
_SHA256_PATTERN = re.compile(r"[0-9a-f]{64}")
_RECORD_KEYS = (
    "name", "kind", "path", "url", "sha256", "bytes", "licence", "trained on", "source", "unverified",
    "config url", "config sha256",
)  # fmt: skip


@dataclass(frozen=True)
class WeightsRecord:
    """One network. `file` is where it lies when it comes with the program, or None when it must be fetched."""

    name: str
    kind: NetworkKind
    file: Path | None = None
    urls: tuple[str, ...] = ()
    sha256: str = ""
    bytes: int | None = None
    licence: str = ""
    trained_on: str = ""
    source: str = ""
    unverified: str = ""
    config_urls: tuple[str, ...] = ()
    config_sha256: str = ""

    @property
    def unverified_reason(self) -> str:
        """Why a person should agree before this is fetched and used, or ""."""
        unknown = self.urls and not self.sha256
        return self.unverified or ("no hash tells whether the file is the right one" if unknown else "")

    @property
    def place(self) -> Path:
        """Where it lies, or will lie when it is fetched."""
        if self.file is not None:
            return self.file
        if self.kind == "clip":
            return home_folder() / "clip" / f"{self.name.replace('/', '--')}.safetensors"
        # a perceptual network stays as it was published; the others become files of our own
        return home_folder() / (self.name + (url_suffix(self.urls[0]) if self.kind == "perceptual" else ".safetensors"))

    @property
    def size(self) -> int | None:
        """Bytes of the download, or of what lies here; None where neither is known."""
        if self.bytes is not None or not self.place.exists():
            return self.bytes
        parts = self.place.rglob("*") if self.place.is_dir() else [self.place]
        return sum(part.stat().st_size for part in parts if part.is_file())


def format_bytes(number: int | None) -> str:
    """Bytes as people say them: 958 MB."""
    if number is None:
        return "?"
    value, units = float(number), ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.3g} {units[0]}"


def shipped_list() -> Path:
    """The weights.txt that came with the program: beside this file in a wheel, at the top of a checkout."""
    inside = _HERE / "weights.txt"
    return inside if inside.is_file() else _HERE.parent.parent / "weights.txt"


def all_records() -> list[WeightsRecord]:
    """All known networks: the shipped list, then the person's own in `home()`, whose entries replace equal names."""
    known = {(one.kind, one.name): one for one in read_list(shipped_list(), _HERE)}
    own = home_folder() / "weights.txt"
    if own.is_file():
        known.update({(one.kind, one.name): one for one in read_list(own, home_folder())})
    return list(known.values())


def find_record(kind: NetworkKind, name: str) -> WeightsRecord:
    """The record of a name; UserError names the near ones."""
    names = {one.name: one for one in all_records() if one.kind == kind}
    if name not in names:
        raise UserError(f"there is no {kind} named {shorten(name)}{did_you_mean(name, names)}")
    return names[name]


def validate_name(name: str) -> str:
    """A name that a person gives to a network, if it can be one."""
    if not _NAME_PATTERN.fullmatch(name) or "/" in name:
        raise UserError(f"name {shorten(name)} may hold letters, digits, dots and dashes only")
    return name


def unlisted_models() -> list[WeightsRecord]:
    """The models in `home()` that a person made or converted: those that no list names."""
    listed = {one.place for one in all_records()}
    found = []
    for path in sorted(home_folder().glob("*.safetensors")):
        header = _read_header(path)
        if path not in listed and header.get("kind") in get_args(NetworkKind):
            found.append(WeightsRecord(name=path.stem, kind=header["kind"], file=path, bytes=path.stat().st_size))
    return found


def _read_header(path: Path) -> dict[str, Any]:
    """The header of one of our files, {} where it is none."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            text = file.read(length) if length < 1 << 26 else b""
        header = json.loads(json.loads(text)["__metadata__"]["vqtools"])
        return header if isinstance(header, dict) else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def url_suffix(url: str) -> str:
    """The suffix of the file that a url leads to; .ckpt where it does not say."""
    known = (".ckpt", ".pth", ".pt", ".bin", ".safetensors", ".zip", ".yaml", ".yml", ".json")
    ends = re.findall(r"\.[a-z]+(?=$|[?&#])", unquote(url).lower())
    return next((end for end in reversed(ends) if end in known), ".ckpt")


def read_list(path: Path, folder: Path) -> list[WeightsRecord]:
    """The records of a file; their paths are taken from `folder`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text; save it as UTF-8") from None
    return parse_list(text, folder, str(path))


def parse_list(text: str, folder: Path, origin: str = "weights.txt") -> list[WeightsRecord]:
    """Blocks of `key: value` lines, empty lines between them, # before remarks -> records."""
    found: list[WeightsRecord] = []
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
            record = _parse_record(block, folder, origin)
            if any((one.kind, one.name) == (record.kind, record.name) for one in found):
                raise UserError(f"{origin} line {block[0][0]}: a second record of the {record.kind} {record.name}")
            found.append(record)
            block = []
    return found


def _parse_record(block: list[tuple[int, str, str]], folder: Path, origin: str) -> WeightsRecord:
    values: dict[str, str] = {}
    urls: dict[str, list[str]] = {"url": [], "config url": []}
    for number, key, value in block:
        where = f"{origin} line {number}"
        if key not in _RECORD_KEYS:
            raise UserError(f"{where}: there is no key {shorten(key)}{did_you_mean(key, _RECORD_KEYS)}")
        if key in urls:
            urls[key].append(_check_url(value, where))
            continue
        if key in values:
            raise UserError(f"{where}: {key} stands twice in one record")
        _check_value(key, value, where)
        values[key] = value
    first = f"{origin} line {block[0][0]}"
    for key in ("name", "kind"):
        if key not in values:
            raise UserError(f"{first}: this record has no {key}")
    if "/" in values["name"] and values["kind"] != "clip":  # a CLIP's name is open_clip's NAME/TAG
        raise UserError(f"{first}: name {shorten(values['name'])} may hold letters, digits, dots and dashes only")
    if not urls["url"] and "path" not in values:
        raise UserError(f"{first}: {values['name']} has neither a path nor a url")
    return WeightsRecord(
        name=values["name"],
        kind=cast(NetworkKind, values["kind"]),
        file=folder / values["path"] if "path" in values else None,
        urls=tuple(urls["url"]),
        sha256=values.get("sha256", "").lower(),
        bytes=int(values["bytes"]) if "bytes" in values else None,
        licence=values.get("licence", ""),
        trained_on=values.get("trained on", ""),
        source=values.get("source", ""),
        unverified=values.get("unverified", ""),
        config_urls=tuple(urls["config url"]),
        config_sha256=values.get("config sha256", "").lower(),
    )


def _check_url(value: str, where: str) -> str:
    if not value.startswith(("https://", "http://")):
        raise UserError(f"{where}: url {shorten(value)} is no address; expected one that begins with https://")
    return value


def _check_value(key: str, value: str, where: str) -> None:
    if key == "kind" and value not in get_args(NetworkKind):
        raise UserError(f"{where}: kind {shorten(value)} is none of {', '.join(get_args(NetworkKind))}")
    if key == "name" and not _NAME_PATTERN.fullmatch(value):
        raise UserError(f"{where}: name {shorten(value)} may hold letters, digits, dots and dashes only")
    if key in ("sha256", "config sha256") and not _SHA256_PATTERN.fullmatch(value.lower()):
        raise UserError(f"{where}: {key} {shorten(value)} is not 64 hexadecimal digits")
    if key == "bytes" and not (value.isascii() and value.isdigit()):
        raise UserError(f"{where}: bytes {shorten(value)} is not a whole number")
