"""Reading and converting pictures: files, PIL images, and tensors in [-1, 1].

Knows files and pixels; nothing about what made a picture or what is recorded in it.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vqtools.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

MAX_PIXELS = 178_000_000  # enough for a scan of 16384 x 10240
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""Suffixes of the picture files that every part of vqtools reads, in lower case."""


def load_picture(
    source: str | Path | bytes, name: str = "", ground: tuple[int, int, int] = (255, 255, 255)
) -> Image.Image:
    """Load the first frame of a picture as 8-bit RGB, rotated upright by its EXIF orientation.

    source: the path of a file, or its content, which errors call ``name``.
    ground: the colour behind transparent pixels.

    Raises UserError for a file that is missing, too large, broken, or not a picture.
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
        raise UserError(f"{str(path)!r} is not a picture that can be read; use PNG, JPEG or WebP") from None
    except PermissionError:
        raise UserError(f"picture {str(path)!r} cannot be read; check its permissions") from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, struct.error, zlib.error) as error:
        reason = " ".join(str(error).split())[:80]
        raise UserError(f"picture {str(path)!r} is broken ({reason}); save it again from another program") from None


def from_uint8(pixels: Tensor) -> Tensor:
    """Convert uint8 pixels (…, H, W, 3) to float32 images (…, 3, H, W) in [-1, 1]."""
    return pixels.movedim(-1, -3).float() / 127.5 - 1.0


def to_uint8(image: Tensor) -> Tensor:
    """Convert images (…, 3, H, W) in [-1, 1] to uint8 pixels (…, H, W, 3) on the CPU, rounded and clipped.

    Undoes :func:`from_uint8` exactly.
    """
    values = image.detach().float().add(1.0).mul(127.5).round().clamp(0, 255)
    return values.byte().movedim(-3, -1).contiguous().cpu()


def to_tensor(picture: Image.Image) -> Tensor:
    """Convert a picture to a tensor (1, 3, H, W) of float32 in [-1, 1]."""
    import torch

    return from_uint8(torch.from_numpy(np.array(picture.convert("RGB"))))[None]


def to_picture(image: Tensor) -> Image.Image:
    """Convert an image (3, H, W) or (1, 3, H, W) in [-1, 1] to a picture, rounded and clipped.

    Undoes :func:`to_tensor` exactly. Raises ValueError for another shape, and for NaN or infinity.
    """
    if image.ndim == 4 and image.shape[0] == 1:
        image = image[0]
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"shape {tuple(image.shape)} is not an image; expected (3, H, W) or (1, 3, H, W)")
    if not bool(image.detach().isfinite().all()):
        raise ValueError("the image contains NaN or infinity, which would become black pixels")
    return Image.fromarray(to_uint8(image).numpy())


def resize_and_crop(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale a picture to cover (width, height) with its aspect ratio, and crop it evenly on both sides."""
    return ImageOps.fit(picture, size, Image.Resampling.LANCZOS)


def resize_and_pad(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale a picture to fit in (width, height) with its aspect ratio, and pad it by repeating its edge pixels."""
    import torch.nn.functional as F

    scale = min(size[0] / picture.width, size[1] / picture.height)
    inner = (round(picture.width * scale), round(picture.height * scale))
    image = to_tensor(picture.resize(inner, Image.Resampling.BICUBIC))
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    pads = (left, size[0] - inner[0] - left, top, size[1] - inner[1] - top)
    return to_picture(F.pad(image, pads, mode="replicate"))


def contact_sheet(pictures: list[Image.Image]) -> Image.Image:
    """Arrange pictures of one size in a grid that is as square as possible."""
    columns = int(len(pictures) ** 0.5 + 0.999)
    width, height = pictures[0].size
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % columns * width, i // columns * height))
    return sheet


def flip_picture(picture: Image.Image, flipped: tuple[bool, bool]) -> Image.Image:
    """Flip a picture: (top to bottom, left to right)."""
    if flipped[0]:
        picture = picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    if flipped[1]:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return picture


def format_size(picture: Image.Image) -> str:
    """Return the size of a picture as ``WIDTHxHEIGHT``."""
    return f"{picture.width}x{picture.height}"


def _as_rgb(picture: Image.Image, ground: tuple[int, int, int]) -> Image.Image:
    """Convert a picture of any mode to RGB. 16-bit integers are scaled; floats are in [0, 1] or [0, 255]."""
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        values = np.asarray(picture, dtype=np.float64)
        is_unit_range = picture.mode == "F" and values.size > 0 and values.max() <= 1.0
        scale = 255.0 if is_unit_range else 1.0 if picture.mode == "F" else 255.0 / 65535.0
        grey = np.nan_to_num(values * scale).round().clip(0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if "A" in picture.getbands() or "transparency" in picture.info or picture.mode in ("PA", "La", "RGBa"):
        picture = picture.convert("RGBA")
        background = Image.new("RGBA", picture.size, (*ground, 255))
        return Image.alpha_composite(background, picture).convert("RGB")
    return picture.convert("RGB")
