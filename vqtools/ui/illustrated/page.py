"""What the page of illustrations needs before it can draw: its settings, the reader's picture, and some more.

Knows files and settings; nothing about what is drawn.
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from vqtools import media
from vqtools.media import resize_and_crop
from vqtools.settings import Settings, UserError, option
from vqtools.training.data import ImageDataset, find_pictures


class IllustratedSettings(Settings):
    """What a reader of notebook 00 may choose."""

    picture: str = option(
        "watercolours.zip/oranges-POM00006472.webp", help="your own picture: a file, or one inside a zip as ZIP/NAME"
    )
    others: str = option("watercolours.zip", help="more pictures, to see where codes are used: a zip or a folder")
    prompt: str = option("a red apple", help="what shall be painted where CLIP judges")
    thing: str = option("apple", help="the one word that is phrased in ten ways")
    seed: int = option(1, help="seed of every draw", ge=0)
    vqgan: str = option("starter", help="name or path of the VQGAN")
    transformer: str = option("starter", help="name or path of the transformer")
    clip: str = option("starter", help="name of the CLIP")
    steps: int = option(300, help="steps of the toy trainings", ge=6, quick=6)
    iterations: int = option(24, help="turns of the loop in which CLIP judges", ge=2, quick=3)


def open_picture(path: str, side: int) -> Tensor:
    """A file, or one inside a zip as ZIP/NAME -> its middle square as an image (1, 3, side, side) in [-1, 1]."""
    archive, inside, name = path.partition(".zip/")
    if not inside:
        return _crop_square(media.load_picture(path), side)
    for source in find_pictures(Path(archive + ".zip")):
        if source.name == name:
            return _crop_square(media.load_picture(source.read(), path), side)
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
    return media.to_tensor(resize_and_crop(picture, (side, side)))
