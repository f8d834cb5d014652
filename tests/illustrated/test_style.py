"""Helpers that all figures share."""

from __future__ import annotations

import io

import torch
from PIL import Image
from torch import Tensor

from vqtools.illustrated.style import tile_images, to_png


def test_tiles_are_separated_by_transparent_gaps() -> None:
    tiles = tile_images(torch.ones(3, 3, 2, 2), columns=2, gap=1)
    assert tiles.shape == (5, 5, 4)
    assert tiles[0, 0].tolist() == [1, 1, 1, 1] and tiles[0, 2, 3] == 0 and tiles[4, 4, 3] == 0


def test_a_png_has_the_pixels_of_the_image(oranges: Tensor) -> None:
    picture = Image.open(io.BytesIO(to_png(oranges)))
    assert picture.size == (96, 96) and to_png(picture) == to_png(oranges)
