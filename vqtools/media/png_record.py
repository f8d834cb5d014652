"""Records inside PNG files: a JSON object in an iTXt chunk with the keyword ``vqtools``.

Knows the PNG format; nothing about what a record means.
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
    """Write a PNG with a record atomically. Returns the path written.

    An existing file is kept, and the name gets -2, -3 and so on, unless ``overwrite`` is True. Raises ValueError for a
    record of more than 4 MiB, or with NaN or infinity.
    """
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
    """Return a record as JSON that :func:`read_record` accepts."""
    text = json.dumps(record, sort_keys=True, ensure_ascii=False, allow_nan=False)
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:  # half of a surrogate pair, from a command line that was not UTF-8
        text = json.dumps(record, sort_keys=True, allow_nan=False)
        size = len(text)
    if size > _MAX_RECORD_BYTES:
        raise ValueError(f"a record of {size} bytes cannot be read back; at most {_MAX_RECORD_BYTES} bytes can")
    return text


def read_record(source: str | Path | bytes, name: str = "") -> dict[str, Any]:
    """Read the record inside a PNG that vqtools wrote.

    source: the path of a file, or its content, which errors call ``name``.

    Raises UserError if the file cannot be read, or has no valid record.
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
        raise UserError(f"the settings inside {str(path)!r} are not a JSON object; paint without --from")
    return cast(dict[str, Any], record)


def _find_chunk(file: BinaryIO, path: Path) -> bytes:
    """Return the text of the record's chunk. Reads only the chunks' headers and the record itself."""
    missing = f"{str(path)!r} contains no settings of vqtools; only PNG files that vqtools wrote do"
    if file.read(8) != _PNG_SIGNATURE:
        raise UserError(missing)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind != b"iTXt":
            file.seek(length + 4, os.SEEK_CUR)
            continue
        body = file.read(min(length, _MAX_RECORD_BYTES + 256))
        if body.startswith(CHUNK_KEYWORD.encode() + b"\0"):
            too_large = f"the settings inside {str(path)!r} are too large; at most 4 MB can be read"
            if length > len(body):
                raise UserError(too_large)
            return _decode_itxt(body, too_large, missing)
        file.seek(length - len(body) + 4, os.SEEK_CUR)
    raise UserError(missing)


def _decode_itxt(body: bytes, too_large: str, missing: str) -> bytes:
    """Return the text of an iTXt chunk: keyword 0 compression-flag method language 0 translated-keyword 0 text."""
    fields = body[len(CHUNK_KEYWORD) + 1 :]
    parts = fields[2:].split(b"\0", 2)
    if len(fields) < 2 or len(parts) != 3:
        raise UserError(missing)
    text = parts[2]
    if fields[0] == 1:  # another program may have compressed it
        decompressor = zlib.decompressobj()
        try:
            text = decompressor.decompress(text, _MAX_RECORD_BYTES + 1)
        except zlib.error:
            raise UserError(missing) from None
    if len(text) > _MAX_RECORD_BYTES:
        raise UserError(too_large)
    return text
