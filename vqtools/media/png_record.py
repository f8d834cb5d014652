"""The record inside a PNG: settings, models and edits, in an iTXt chunk named `vqtools`.

Knows the PNG format and JSON; nothing about what the record means.
"""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from vqtools.core.errors import UserError
from vqtools.core.files import atomic_write, write_new

CHUNK_KEYWORD = "vqtools"


_MAX_RECORD_BYTES = 4 * 2**20


_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def save_png(path: str | Path, picture: Image.Image, record: dict[str, Any], *, overwrite: bool = False) -> Path:
    """Write a PNG with its record, whole or not at all; a taken name gets -2, -3, … Returns the path written."""
    path = Path(path)
    text = _serialise_record(record)
    info = PngInfo()
    info.add_itxt(CHUNK_KEYWORD, text)

    def write(target: Path) -> None:
        picture.save(target, format="PNG", pnginfo=info)

    if not overwrite:
        return write_new(path, write)
    with atomic_write(path) as temporary:
        write(temporary)
    return path


def _serialise_record(record: dict[str, Any]) -> str:
    text = json.dumps(record, sort_keys=True, ensure_ascii=False, allow_nan=False)
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:  # half of a surrogate pair, from a command line that was not UTF-8
        text = json.dumps(record, sort_keys=True, allow_nan=False)
        size = len(text)
    if size > _MAX_RECORD_BYTES:
        raise ValueError(f"a record of {size} bytes is more than the {_MAX_RECORD_BYTES} that are read back")
    return text


def read_record(source: str | Path | bytes, name: str = "") -> dict[str, Any]:
    """The record inside a PNG that vqtools wrote; UserError says why there is none.

    source: a file's path, or its content, which errors call ``name``.
    """
    path = Path(name) if isinstance(source, bytes) else Path(source)
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open(path, "rb") as file:
            data = _find_chunk(file, path)
    except FileNotFoundError:
        raise UserError(f"picture {str(path)!r} is not there") from None
    except OSError as error:
        raise UserError(f"picture {str(path)!r} cannot be read ({error.strerror or error})") from None
    try:
        record = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        raise UserError(f"the settings inside {str(path)!r} are broken; paint without --from") from None
    if not isinstance(record, dict):
        raise UserError(f"the settings inside {str(path)!r} are no JSON object; paint without --from")
    return cast(dict[str, Any], record)


def _find_chunk(file: BinaryIO, path: Path) -> bytes:
    missing = f"{str(path)!r} holds no settings of vqtools; only PNGs that it wrote do"
    if file.read(8) != _PNG_SIGNATURE:
        raise UserError(missing)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind != b"iTXt":
            file.seek(length + 4, os.SEEK_CUR)
            continue
        body = file.read(min(length, _MAX_RECORD_BYTES + 256))
        if body.startswith(CHUNK_KEYWORD.encode() + b"\0"):
            too_large = f"the settings inside {str(path)!r} are too large; at most 4 MB are read"
            if length > len(body):
                raise UserError(too_large)
            return _decode_itxt(body, too_large, missing)
        file.seek(length - len(body) + 4, os.SEEK_CUR)
    raise UserError(missing)


def _decode_itxt(body: bytes, too_large: str, missing: str) -> bytes:
    """The text of an iTXt body: keyword 0 compressed? method language 0 translated 0 text."""
    rest = body[len(CHUNK_KEYWORD) + 1 :]
    parts = rest[2:].split(b"\0", 2)
    if len(rest) < 2 or len(parts) != 3:
        raise UserError(missing)
    text = parts[2]
    if rest[0] == 1:  # another program may have compressed it
        unpack = zlib.decompressobj()
        try:
            text = unpack.decompress(text, _MAX_RECORD_BYTES + 1)
        except zlib.error:
            raise UserError(missing) from None
    if len(text) > _MAX_RECORD_BYTES:
        raise UserError(too_large)
    return text
