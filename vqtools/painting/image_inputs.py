"""The pictures that settings name: opened once, known by the hash of their content, small ones kept inside the record.

A record out of somebody's PNG may name files. Knows which names came that way, and opens none of them unasked.
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

_MAX_EMBEDDED_BYTES = 256 * 2**10  # bytes of a file that goes into the record whole
_MAX_EMBEDDED_BYTES_IN_ALL = 2**20
FILE_FIELDS = ("init_image", "style_image", "complete", "mask", "condition")
_NETWORK_FIELDS = ("vqgan", "clip", "transformer")


def named_files(settings: Mapping[str, Any]) -> Iterator[str]:
    """Every picture that settings, or an edit of some of them, name."""
    yield from (settings[field] for field in FILE_FIELDS if isinstance(settings.get(field), str) and settings[field])
    areas = [*parse_regions(str(settings.get("regions", ""))).values()]
    if str(settings.get("protect", "")).strip():
        areas.append(parse_area(settings["protect"]))
    yield from (area for area in areas if isinstance(area, str))
    if isinstance(settings.get("prompt"), str) and settings["prompt"].strip():  # a drawing may have none
        yield from (one.picture for one in parse_prompts(settings["prompt"]) if one.picture)


def refuse_network_paths(settings: Mapping[str, Any]) -> ImageInputs:
    """UserError where settings out of a file name a network's file rather than a name; else what they may read."""
    foreign = ImageInputs({"settings": settings})
    for kind in _NETWORK_FIELDS:
        foreign.check_network_trusted(kind, str(settings.get(kind, "")))
    return foreign


def refuse_file_paths(settings: Mapping[str, Any]) -> None:
    """UserError where settings out of a file name a file to read, a picture's or a network's."""
    foreign = refuse_network_paths(settings)
    for field in FILE_FIELDS:
        if settings.get(field):
            raise foreign.untrusted_error(str(settings[field]))


def requested_files(record: Mapping[str, Any]) -> list[str]:
    """The files that a record asks to be read: those that it holds itself, and networks by name, are none.

    Painting from the record refuses them until they are trusted; see :class:`ImageInputs`.
    """
    inputs = ImageInputs(record)
    pictures = inputs._untrusted_files - set(inputs._embedded)
    networks = {name for kind, names in inputs._networks for name in inputs._network_files(kind, names)}
    return sorted(pictures | networks)


class ImageInputs:
    """The pictures of one painting, by the names that its settings have for them.

    record: of the PNG that the settings came from, if they did. Its files are read only with ``trusted``; what it holds
    within itself always is.
    """

    def __init__(self, record: Mapping[str, Any] | None = None, *, trusted: bool = False) -> None:
        self.hashes: dict[str, str] = {}  # by name: what was opened here
        self._embedded: dict[str, bytes] = {}
        self._pictures: dict[str, Image.Image] = {}
        self._untrusted_files: frozenset[str] = frozenset()
        self._networks: frozenset[tuple[str, str]] = frozenset()
        if record:
            self._restore(record, trusted)

    def picture(self, name: str) -> Image.Image:
        """A picture by its name; UserError where there is none, or where only a stranger's record asks for it."""
        if name not in self._pictures:
            data = self._embedded.get(name)
            if data is None:
                data = self._read(name)
            self.hashes[name] = hashlib.sha256(data).hexdigest()
            if len(data) <= _MAX_EMBEDDED_BYTES:
                self._embedded[name] = data
            self._pictures[name] = load_picture(data, name)
        return self._pictures[name]

    def hold(self, name: str, picture: Image.Image) -> None:
        """Take a picture that is no file yet under a name; where it is small, the record holds it."""
        content = io.BytesIO()
        picture.save(content, "PNG", optimize=True)
        self._embedded[name] = content.getvalue()

    def check_network_trusted(self, kind: str, name: str) -> None:
        """UserError where only a stranger's record asks for a network's file, rather than for a name."""
        if (kind, name) not in self._networks:
            return
        for one in self._network_files(kind, name):
            raise self.untrusted_error(one)

    @staticmethod
    def _network_files(kind: str, name: str) -> Iterator[str]:
        """Of a network's name, or several CLIPs', what would be opened as a file."""
        for one in parse_clips(name) if kind == "clip" else (name,):
            public = kind == "clip" and re.fullmatch(r"[\w-]+/[\w-]+", one) and not Path(one).exists()
            if not public and any(mark in one for mark in "/\\."):
                yield one

    def untrusted_error(self, name: str) -> UserError:
        """That a stranger's record asks for a file, and how to agree."""
        return UserError(
            f"the picture whose settings these are wants to read {shorten(name)};"
            " say --trust-paths if that file is meant"
        )

    def record(self) -> dict[str, Any]:
        """For the PNG: hashes by name, and the files that are small enough, as base64."""
        room, kept = _MAX_EMBEDDED_BYTES_IN_ALL, {}
        for name in self.hashes:
            if (data := self._embedded.get(name)) is not None and len(data) <= room:
                room -= len(data)
                kept[name] = base64.b64encode(data).decode()
        return {"inputs": dict(self.hashes), "embedded": kept}

    def _read(self, name: str) -> bytes:
        if name in self._untrusted_files:
            raise self.untrusted_error(name)
        if not Path(name).is_file():
            load_picture(name)  # says in its own words what is there instead
        try:
            return Path(name).read_bytes()
        except OSError as error:
            raise UserError(f"picture {name!r} cannot be read ({error.strerror or error})") from None

    def _restore(self, record: Mapping[str, Any], trusted: bool) -> None:
        if not trusted:
            asked = [one for one in (record.get("settings"), record.get("began"), *_logged_settings(record))
                     if isinstance(one, Mapping)]  # fmt: skip
            self._untrusted_files = frozenset(name for one in asked for name in named_files(one))
            self._networks = frozenset((kind, str(one.get(kind))) for one in asked for kind in _NETWORK_FIELDS)
        embedded, hashes = record.get("embedded", {}), record.get("inputs", {})
        if not isinstance(embedded, Mapping) or not isinstance(hashes, Mapping):
            raise UserError("the inputs inside the picture's record are broken; paint without --from")
        for name, text in embedded.items():
            try:
                data = base64.b64decode(str(text), validate=True)
            except (binascii.Error, ValueError):
                data = b""
            if len(data) > _MAX_EMBEDDED_BYTES or hashlib.sha256(data).hexdigest() != hashes.get(name):
                raise UserError(
                    f"the input {shorten(name)} inside the picture's record is broken; paint without --from"
                )
            self._embedded[str(name)] = data


def _logged_settings(record: Mapping[str, Any]) -> Iterator[Any]:
    journal = record.get("journal", [])
    for entry in journal if isinstance(journal, list) else []:
        if isinstance(entry, Mapping):
            yield entry.get("settings")
