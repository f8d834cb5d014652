"""Pictures in and out, and the settings inside a PNG.

Knows files, pixels and records; nothing about what painted them.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import struct
import unicodedata
import uuid
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from vqtools.settings import UserError

if TYPE_CHECKING:
    from torch import Tensor

CHUNK_KEYWORD = "vqtools"
MAX_PIXELS = 178_000_000  # pixels; a 16384 x 10240 scan passes
_MAX_RECORD_BYTES = 4 * 2**20
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_STEM_LENGTH = 60
_MAX_STEM_BYTES = 160


def load_picture(
    source: str | Path | bytes, name: str = "", ground: tuple[int, int, int] = (255, 255, 255)
) -> Image.Image:
    """The first frame of a picture as RGB: turned as the camera held it, transparency on ``ground``, 8 bits.

    source: a file's path, or its content, which errors call ``name``.
    """
    path = Path(name) if isinstance(source, bytes) else Path(source)
    if isinstance(source, bytes):
        file: Path | io.BytesIO = io.BytesIO(source)
    elif not path.exists():
        raise UserError(f"picture {str(path)!r} is not there")
    elif not path.is_file():
        raise UserError(f"picture {str(path)!r} is a folder, not a file")
    else:
        file = path
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file) as picture:
                width, height = picture.size
                if width * height > MAX_PIXELS:
                    raise UserError(f"picture {str(path)!r} is {width}x{height}; at most 178 million pixels are read")
                picture.load()
                return _as_rgb(ImageOps.exif_transpose(picture), ground)
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise UserError(f"picture {str(path)!r} is too large; at most 178 million pixels are read") from None
    except UnidentifiedImageError:
        raise UserError(f"{str(path)!r} is no picture that can be read; PNG, JPEG and WebP are") from None
    except PermissionError:
        raise UserError(f"picture {str(path)!r} may not be read; check its permissions") from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, struct.error, zlib.error) as error:
        reason = " ".join(str(error).split())[:80]
        raise UserError(f"picture {str(path)!r} is broken ({reason}); save it again from another program") from None


def _as_rgb(picture: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        values = np.asarray(picture, dtype=np.float64)
        unit = picture.mode == "F" and values.size > 0 and values.max() <= 1.0
        scale = 255.0 if unit else 1.0 if picture.mode == "F" else 255.0 / 65535.0
        eight = np.nan_to_num(values * scale).round().clip(0, 255).astype(np.uint8)
        return Image.fromarray(eight).convert("RGB")
    if "A" in picture.getbands() or "transparency" in picture.info or picture.mode in ("PA", "La", "RGBa"):
        picture = picture.convert("RGBA")
        ground = Image.new("RGBA", picture.size, (*colour, 255))
        return Image.alpha_composite(ground, picture).convert("RGB")
    return picture.convert("RGB")


def to_tensor(picture: Image.Image) -> Tensor:
    """A picture -> (1, 3, H, W) of float32 in [-1, 1]."""
    import torch

    pixels = torch.from_numpy(np.array(picture.convert("RGB")))
    return pixels.permute(2, 0, 1).unsqueeze(0).to(torch.float32) / 127.5 - 1.0


def to_picture(image: Tensor) -> Image.Image:
    """(3, H, W) or (1, 3, H, W) in [-1, 1], clipped, rounded -> a picture; undoes `to_tensor` exactly."""
    if image.ndim == 4 and image.shape[0] == 1:
        image = image[0]
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"shape {tuple(image.shape)} is no picture; (3, H, W) or (1, 3, H, W) is")
    values = (image.detach().float().cpu() + 1.0) * 127.5
    if not bool(values.isfinite().all()):
        raise ValueError("the picture holds NaN or infinity; it would come out black")
    pixels = values.round().clamp(0, 255).permute(1, 2, 0).contiguous().numpy().astype(np.uint8)
    return Image.fromarray(pixels)


def resize_and_crop(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale a picture to cover (width, height) and cut the rest off evenly: nothing is squeezed."""
    return ImageOps.fit(picture, size, Image.Resampling.LANCZOS)


def resize_and_pad(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A picture enlarged to stand whole in a size, its edges drawn out to fill the rest."""
    import torch.nn.functional as F

    scale = min(size[0] / picture.width, size[1] / picture.height)
    inner = (round(picture.width * scale), round(picture.height * scale))
    image = to_tensor(picture.resize(inner, Image.Resampling.BICUBIC))
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    pads = (left, size[0] - inner[0] - left, top, size[1] - inner[1] - top)
    return to_picture(F.pad(image, pads, mode="replicate"))


def contact_sheet(pictures: list[Image.Image]) -> Image.Image:
    """Pictures of one size side by side, as square as it gets."""
    columns = int(len(pictures) ** 0.5 + 0.999)
    width, height = pictures[0].size
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % columns * width, i // columns * height))
    return sheet


def save_png(path: str | Path, picture: Image.Image, record: dict[str, Any], *, overwrite: bool = False) -> Path:
    """Write a PNG with its record, whole or not at all; a taken name gets -2, -3, … Returns the path written."""
    path = Path(path)
    text = _serialise_record(record)
    info = PngInfo()
    info.add_itxt(CHUNK_KEYWORD, text)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            picture.save(file, format="PNG", pnginfo=info)
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            os.replace(temporary, path)
            return path
        return claim_free_path(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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


def claim_free_path(temporary: Path, path: Path) -> Path:
    """Give the finished file the first free name of path, path-2, path-3, … without ever replacing one."""
    number = 1
    while True:
        target = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        try:
            os.link(temporary, target)
            return target
        except FileExistsError:
            number += 1
        except OSError:  # a disk without hard links: reserve the name, then move onto it
            with contextlib.suppress(FileExistsError):
                os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                os.replace(temporary, target)
                return target
            number += 1


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


def file_stem(prompt: str, seed: int) -> str:
    """A file name without ending that every system takes: ("A red apple!", 42) -> `a-red-apple-42`."""
    plain = unicodedata.normalize("NFC", prompt.lower())
    words = "".join(letter if letter.isalnum() else " " for letter in plain).split()
    stem = "-".join(words)[:_MAX_STEM_LENGTH]
    stem = stem.encode("utf-8")[:_MAX_STEM_BYTES].decode("utf-8", "ignore").strip("-")
    # with the number behind it no name is one of those that Windows keeps (con, nul, com1 …)
    return f"{stem or 'picture'}-{seed}"


def check_writable(folder: str | Path) -> None:
    """UserError unless a file can be written in the folder, or in the nearest one above it that exists."""
    folder = Path(folder)
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise UserError(f"folder {str(folder)!r} cannot be made: {str(place)!r} is a file; choose another with --out")
    probe = place / f".{uuid.uuid4().hex}.tmp"
    try:
        with open(probe, "xb") as file:
            file.write(b"vqtools")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"folder {str(folder)!r} cannot be written ({reason}); choose another with --out") from None
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
