"""Sheets of labelled pictures."""

from typing import NamedTuple

import numpy as np
from PIL import Image

from vqtools.pipelines.grid_layout import draw_grid


class Cell(NamedTuple):
    row: str
    label: str


def test_pictures_are_labelled_and_missing_ones_are_grey() -> None:
    cells = [Cell(f"row {i // 2}", f"seed {i}") for i in range(4)]
    sheet = draw_grid(cells, [Image.new("RGB", (96, 64), colour) for colour in ("red", "green", "blue")])
    pixels = np.asarray(sheet).reshape(-1, 3).tolist()
    counts = [pixels.count(colour) for colour in ([255, 0, 0], [0, 128, 0], [0, 0, 255], [225, 225, 225])]
    assert counts[:3] == [96 * 64] * 3 and counts[3] >= 96 * 64
    assert sum(max(pixel) < 100 for pixel in pixels) > 20  # the rows' titles
    large = draw_grid(cells, [Image.new("RGB", (2000, 1000))] * 4)
    assert large.width < 2 * 384 + 50
    assert draw_grid([Cell("", str(i)) for i in range(16)], []).size[0] == 4 * 130 + 2
