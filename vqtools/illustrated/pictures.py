"""What the page of illustrations needs before it can draw: its settings, the reader's picture, and some more.

Knows files and settings; nothing about what is drawn.
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from vqtools.core.errors import UserError
from vqtools.media.image import load_picture, resize_and_crop, to_tensor
from vqtools.training.image_dataset import ImageDataset, find_pictures


def open_picture(path: str, side: int) -> Tensor:
    """A file, or one inside a zip as ZIP/NAME -> its middle square as an image (1, 3, side, side) in [-1, 1]."""
    archive, inside, name = path.partition(".zip/")
    if not inside:
        return _crop_square(load_picture(path), side)
    for source in find_pictures(Path(archive + ".zip")):
        if source.name == name:
            return _crop_square(load_picture(source.read(), path), side)
    raise UserError(f"{archive + '.zip'!r} holds no picture called {name!r}; take another, or the path of a picture")


def open_pictures(path: str, side: int, count: int = 40) -> Tensor:
    """The first pictures of a folder or a zip, each its middle square: images (n, 3, side, side) in [-1, 1]."""
    sources = find_pictures(Path(path))[:count]
    pictures = ImageDataset(sources, 2 * side)
    found = [picture for i in range(len(sources)) if (picture := pictures.get(i)) is not None]
    if not found:
        raise UserError(f"none of the pictures of {path!r} can be read; take another folder or zip")
    return torch.cat([_crop_square(picture, side) for picture in found])


def _crop_square(picture: Image.Image, side: int) -> Tensor:
    return to_tensor(resize_and_crop(picture, (side, side)))
