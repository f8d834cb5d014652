"""The pictures that settings name: opened once, identified by SHA-256, embedded in the record if they are small.

A record from a PNG may come from a stranger and name files. This module knows which names came from a record and opens
none of them without the user's consent.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from vqtools.core.errors import UserError, shorten
from vqtools.media.image import load_picture
from vqtools.painting.parsers import parse_area, parse_clips, parse_regions
from vqtools.painting.prompts import parse_prompts

_MAX_EMBEDDED_BYTES = 256 * 2**10  # of one file
_MAX_EMBEDDED_BYTES_IN_ALL = 2**20
FILE_FIELDS = ("init_image", "style_image", "complete", "mask", "condition")
_NETWORK_FIELDS = ("vqgan", "clip", "transformer")


def named_files(settings: Mapping[str, Any]) -> Iterator[str]:
    """The file names of all pictures in settings, or in an edit of some of them."""
    yield from (settings[field] for field in FILE_FIELDS if isinstance(settings.get(field), str) and settings[field])
    areas = [*parse_regions(str(settings.get("regions", ""))).values()]
    if str(settings.get("protect", "")).strip():
        areas.append(parse_area(settings["protect"]))
    yield from (area for area in areas if isinstance(area, str))
    if isinstance(settings.get("prompt"), str) and settings["prompt"].strip():  # samples may have no prompt
        yield from (prompt.picture for prompt in parse_prompts(settings["prompt"]) if prompt.picture)


def refuse_network_paths(settings: Mapping[str, Any]) -> ImageInputs:
    """Raise UserError if settings from a file name a network's file instead of a name; returns their inputs."""
    inputs = ImageInputs({"settings": settings})
    for kind in _NETWORK_FIELDS:
        inputs.check_network_trusted(kind, str(settings.get(kind, "")))
    return inputs


def refuse_file_paths(settings: Mapping[str, Any]) -> None:
    """Raise UserError if settings from a file name a file to read, a picture's or a network's."""
    inputs = refuse_network_paths(settings)
    for field in FILE_FIELDS:
        if settings.get(field):
            raise inputs.untrusted_error(str(settings[field]))


def requested_files(record: Mapping[str, Any]) -> list[str]:
    """The files that a record needs to be read, sorted; without those embedded in it and without networks by name.

    Painting from the record refuses them unless they are trusted; see :class:`ImageInputs`.
    """
    inputs = ImageInputs(record)
    pictures = inputs._untrusted_files - set(inputs._embedded)
    networks = {name for kind, names in inputs._untrusted_networks for name in inputs._network_files(kind, names)}
    return sorted(pictures | networks)


class ImageInputs:
    """The pictures of one painting, by the names that its settings give them.

    record: of the PNG that the settings came from, if they came from one. Files that it names are read only if it is
        ``trusted``; pictures embedded in it are always available.
    """

    def __init__(self, record: Mapping[str, Any] | None = None, *, trusted: bool = False) -> None:
        self.hashes: dict[str, str] = {}  # SHA-256 of the pictures opened so far, by name
        self._embedded: dict[str, bytes] = {}
        self._pictures: dict[str, Image.Image] = {}
        self._untrusted_files: frozenset[str] = frozenset()
        self._untrusted_networks: frozenset[tuple[str, str]] = frozenset()
        if record:
            self._read_record(record, trusted)

    def picture(self, name: str) -> Image.Image:
        """A picture by its name; UserError if it cannot be read, or if only an untrusted record names it."""
        if name not in self._pictures:
            data = self._embedded.get(name)
            if data is None:
                data = self._read(name)
            self.hashes[name] = hashlib.sha256(data).hexdigest()
            if len(data) <= _MAX_EMBEDDED_BYTES:
                self._embedded[name] = data
            self._pictures[name] = load_picture(data, name)
        return self._pictures[name]

    def add(self, name: str, picture: Image.Image) -> None:
        """Add a picture that is not a file under a name; a small one is embedded in the record."""
        content = io.BytesIO()
        picture.save(content, "PNG", optimize=True)
        self._embedded[name] = content.getvalue()

    def check_network_trusted(self, kind: str, name: str) -> None:
        """Raise UserError if only an untrusted record names a network, and by a file instead of a name."""
        if (kind, name) in self._untrusted_networks:
            for file in self._network_files(kind, name):
                raise self.untrusted_error(file)

    @staticmethod
    def _network_files(kind: str, name: str) -> Iterator[str]:
        """The parts of a network's name, or of several CLIPs' names, that would be opened as files."""
        for part in parse_clips(name) if kind == "clip" else (name,):
            public = kind == "clip" and re.fullmatch(r"[\w-]+/[\w-]+", part) and not Path(part).exists()
            if not public and any(character in part for character in "/\\."):
                yield part

    def untrusted_error(self, name: str) -> UserError:
        """The error for a file that only an untrusted record names."""
        return UserError(
            f"the picture that these settings come from wants to read {shorten(name)}; add --trust-paths if you want to"
            " open that file"
        )

    def record(self) -> dict[str, Any]:
        """For the PNG: hashes by name, and the content of small files as base64."""
        bytes_left, embedded = _MAX_EMBEDDED_BYTES_IN_ALL, {}
        for name in self.hashes:
            if (data := self._embedded.get(name)) is not None and len(data) <= bytes_left:
                bytes_left -= len(data)
                embedded[name] = base64.b64encode(data).decode()
        return {"inputs": dict(self.hashes), "embedded": embedded}

    def _read(self, name: str) -> bytes:
        if name in self._untrusted_files:
            raise self.untrusted_error(name)
        if not Path(name).is_file():
            load_picture(name)  # raises an error that says what is there instead
        try:
            return Path(name).read_bytes()
        except OSError as error:
            raise UserError(f"picture {name!r} cannot be read ({error.strerror or error})") from None

    def _read_record(self, record: Mapping[str, Any], trusted: bool) -> None:
        if not trusted:
            candidates = (record.get("settings"), record.get("began"), *_logged_settings(record))
            mappings = [settings for settings in candidates if isinstance(settings, Mapping)]
            self._untrusted_files = frozenset(name for settings in mappings for name in named_files(settings))
            self._untrusted_networks = frozenset(
                (kind, str(settings.get(kind))) for settings in mappings for kind in _NETWORK_FIELDS
            )
        embedded, hashes = record.get("embedded", {}), record.get("inputs", {})
        if not isinstance(embedded, Mapping) or not isinstance(hashes, Mapping):
            raise UserError("the picture's record has broken inputs; paint without --from")
        for name, text in embedded.items():
            try:
                data = base64.b64decode(str(text), validate=True)
            except (binascii.Error, ValueError):
                data = b""
            if len(data) > _MAX_EMBEDDED_BYTES or hashlib.sha256(data).hexdigest() != hashes.get(name):
                raise UserError(f"the picture's record has a broken input {shorten(name)}; paint without --from")
            self._embedded[str(name)] = data


def _logged_settings(record: Mapping[str, Any]) -> Iterator[Any]:
    """The settings of all entries of a record's edit log, which may be anything."""
    journal = record.get("journal", [])
    for entry in journal if isinstance(journal, list) else []:
        if isinstance(entry, Mapping):
            yield entry.get("settings")
