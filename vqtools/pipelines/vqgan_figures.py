"""TODO: what this module is.

Split from vqtools.workshop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from vqtools.media.image import to_picture
from vqtools.models.vqgan import VQGAN
from vqtools.training.image_dataset import ImageDataset, centre_crops, find_pictures, split_held_out
from vqtools.weights.load import load_vqgan


@torch.no_grad()
def draw_codebook(vqgan: VQGAN, columns: int = 0) -> Image.Image:
    """The codebook as a picture: what the decoder draws for each code alone, a tile of f x f pixels a code."""
    k, f = vqgan.config.codebook_size, vqgan.f
    columns = columns or math.ceil(math.sqrt(k))
    codes = torch.arange(k, device=vqgan.last_layer.device)
    tiles = []
    for part in torch.split(codes, 256):
        # a code among its like, and of what is drawn the middle: the border is no code's own
        image = vqgan.decode(part.view(-1, 1, 1).expand(-1, 3, 3)).clamp(-1, 1)
        tiles.append(image[:, :, f : 2 * f, f : 2 * f].cpu())
    grid = torch.cat([*tiles, torch.ones(-k % columns, 3, f, f)])
    grid = grid.view(-1, columns, 3, f, f).permute(2, 0, 3, 1, 4).reshape(3, -1, columns * f)
    return to_picture(grid)


@torch.no_grad()
def compare_reconstructions(
    names: Sequence[str], folder: str | Path, *, size: int = 96, count: int = 8, seed: int = 0
) -> Image.Image:
    """Held-out pictures of a folder in the top row, then a row for what each VQGAN makes of them."""
    pictures = ImageDataset(find_pictures(Path(folder)), 2 * size)
    held = centre_crops(pictures, split_held_out(len(pictures), seed)[1][:count], size)
    rows = [held, *(load_vqgan(name)(held)[0].clamp(-1, 1) for name in names)]
    return to_picture(torch.cat([torch.cat(list(row), 2) for row in rows], 1))
