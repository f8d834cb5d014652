"""Load the reader's pictures for notebook 00 as square tensors.

Knows files, folders and zip archives; nothing about figures or networks.
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
    """Load a picture file, or ZIP/NAME for one inside a zip, as an image (1, 3, side, side) in [-1, 1].

    The picture is scaled and cropped to its central square. Raises UserError if the file is missing, unreadable or not
    in the zip.
    """
    archive, inside, name = path.partition(".zip/")
    if not inside:
        return _crop_square(load_picture(path), side)
    for source in find_pictures(Path(archive + ".zip")):
        if source.name == name:
            return _crop_square(load_picture(source.read(), path), side)
    raise UserError(
        f"{archive + '.zip'!r} contains no picture named {name!r}; choose another name, or give a picture file's path"
    )


def open_pictures(path: str, side: int, count: int = 40) -> Tensor:
    """Load up to ``count`` pictures of a folder or zip as images (n, 3, side, side) in [-1, 1], central squares.

    Unreadable files are skipped. Raises UserError if no picture can be read.
    """
    sources = find_pictures(Path(path))[:count]
    dataset = ImageDataset(sources, 2 * side)
    readable = [picture for i in range(len(sources)) if (picture := dataset.get(i)) is not None]
    if not readable:
        raise UserError(f"no picture in {path!r} can be read; choose another folder or zip")
    return torch.cat([_crop_square(picture, side) for picture in readable])


def _crop_square(picture: Image.Image, side: int) -> Tensor:
    return to_tensor(resize_and_crop(picture, (side, side)))
