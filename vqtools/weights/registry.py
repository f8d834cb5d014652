"""The list of known networks: weights.txt, parsed to records.

Knows names, paths, URLs and licences; downloads nothing and loads no network, so that it is fast and needs no torch.
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
    """A network of the list. ``file`` is its path if it is part of the installation, None if it is downloaded."""

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
        """Why the user must agree before this network is downloaded and used, or ""."""
        has_no_hash = self.urls and not self.sha256
        return self.unverified or ("there is no hash to check the file" if has_no_hash else "")

    @property
    def path(self) -> Path:
        """The path of the file, also before it is downloaded."""
        if self.file is not None:
            return self.file
        if self.kind == "clip":
            return home_folder() / "clip" / f"{self.name.replace('/', '--')}.safetensors"
        # a perceptual network is kept as published; the others are converted to our format
        return home_folder() / (self.name + (url_suffix(self.urls[0]) if self.kind == "perceptual" else ".safetensors"))

    @property
    def size(self) -> int | None:
        """Bytes of the download, or of the local file; None if neither is known."""
        if self.bytes is not None or not self.path.exists():
            return self.bytes
        parts = self.path.rglob("*") if self.path.is_dir() else [self.path]
        return sum(part.stat().st_size for part in parts if part.is_file())


def format_bytes(number: int | None) -> str:
    """Format a number of bytes with a unit and three digits: ``958 MB``; "?" for None."""
    if number is None:
        return "?"
    value, units = float(number), ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.3g} {units[0]}"


def shipped_list() -> Path:
    """Return the weights.txt of this installation: beside this file in a wheel, at the root of a checkout."""
    packaged = _HERE / "weights.txt"
    return packaged if packaged.is_file() else _HERE.parent.parent / "weights.txt"


def all_records() -> list[WeightsRecord]:
    """Return all known networks: the shipped list, updated by the user's own weights.txt in the home folder."""
    records = {(record.kind, record.name): record for record in read_list(shipped_list(), _HERE)}
    user_list = home_folder() / "weights.txt"
    if user_list.is_file():
        records.update({(record.kind, record.name): record for record in read_list(user_list, home_folder())})
    return list(records.values())


def find_record(kind: NetworkKind, name: str) -> WeightsRecord:
    """Return the record of a name. Raises UserError, which suggests similar names, if there is none."""
    records = {record.name: record for record in all_records() if record.kind == kind}
    if name not in records:
        raise UserError(f"there is no {kind} named {shorten(name)}{did_you_mean(name, records)}")
    return records[name]


def validate_name(name: str) -> str:
    """Return a name that a user gives to a network. Raises UserError if it cannot be a file name."""
    if not _NAME_PATTERN.fullmatch(name) or "/" in name:
        raise UserError(f"name {shorten(name)} may hold letters, digits, dots and dashes only")
    return name


def unlisted_models() -> list[WeightsRecord]:
    """Return the models in the home folder that no list names: those that the user trained or converted."""
    listed = {record.path for record in all_records()}
    models = []
    for path in sorted(home_folder().glob("*.safetensors")):
        header = _read_header(path)
        if path not in listed and header.get("kind") in get_args(NetworkKind):
            models.append(WeightsRecord(name=path.stem, kind=header["kind"], file=path, bytes=path.stat().st_size))
    return models


def url_suffix(url: str) -> str:
    """Return the suffix of the file that a URL leads to; ``.ckpt`` if the URL does not contain it."""
    known = (".ckpt", ".pth", ".pt", ".bin", ".safetensors", ".zip", ".yaml", ".yml", ".json")
    candidates = re.findall(r"\.[a-z]+(?=$|[?&#])", unquote(url).lower())
    return next((suffix for suffix in reversed(candidates) if suffix in known), ".ckpt")


def read_list(path: Path, folder: Path) -> list[WeightsRecord]:
    """Read the records of a list; their paths are relative to ``folder``. Raises UserError for an invalid file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text; save it as UTF-8") from None
    return parse_list(text, folder, str(path))


def parse_list(text: str, folder: Path, origin: str = "weights.txt") -> list[WeightsRecord]:
    """Parse records: blocks of ``key: value`` lines between empty lines; lines that begin with # are comments.

    Raises UserError, which names ``origin`` and the line, for an invalid or duplicate record.
    """
    records: list[WeightsRecord] = []
    block: list[tuple[int, str, str]] = []  # line number, key, value
    for number, line in enumerate(map(str.strip, [*text.splitlines(), ""]), start=1):
        if line.startswith("#"):
            continue
        if line:
            key, colon, value = line.partition(":")
            if not colon or not value.strip():
                raise UserError(f"{origin} line {number}: {shorten(line)} is not `key: value`")
            block.append((number, key.strip().lower(), value.strip()))
        elif block:
            record = _parse_record(block, folder, origin)
            if any((other.kind, other.name) == (record.kind, record.name) for other in records):
                raise UserError(f"{origin} line {block[0][0]}: a second record of the {record.kind} {record.name}")
            records.append(record)
            block = []
    return records


def _read_header(path: Path) -> dict[str, Any]:
    """Return the header of one of our files, {} for another file. Unlike `model_file`, this needs no torch."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            text = file.read(length) if length < 1 << 26 else b""
        header = json.loads(json.loads(text)["__metadata__"]["vqtools"])
        return header if isinstance(header, dict) else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def _parse_record(block: list[tuple[int, str, str]], folder: Path, origin: str) -> WeightsRecord:
    """Parse a record from its lines (number, key, value)."""
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
            raise UserError(f"{where}: {key} occurs twice in one record")
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
        raise UserError(f"{where}: url {shorten(value)} is invalid; expected one that begins with https://")
    return value


def _check_value(key: str, value: str, where: str) -> None:
    if key == "kind" and value not in get_args(NetworkKind):
        raise UserError(f"{where}: kind {shorten(value)}: must be one of {', '.join(get_args(NetworkKind))}")
    if key == "name" and not _NAME_PATTERN.fullmatch(value):
        raise UserError(f"{where}: name {shorten(value)} may hold letters, digits, dots and dashes only")
    if key in ("sha256", "config sha256") and not _SHA256_PATTERN.fullmatch(value.lower()):
        raise UserError(f"{where}: {key} {shorten(value)} is not 64 hexadecimal digits")
    if key == "bytes" and not (value.isascii() and value.isdigit()):
        raise UserError(f"{where}: bytes {shorten(value)} is not a whole number")
