"""Pictures that show a VQGAN: its codebook, and reconstructions by several networks side by side."""

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
    """The codebook as a picture: each code decoded on its own, a tile of f × f pixels per code."""
    k, f = vqgan.config.codebook_size, vqgan.f
    columns = columns or math.ceil(math.sqrt(k))
    codes = torch.arange(k, device=vqgan.last_layer.device)
    tiles = []
    for part in torch.split(codes, 256):
        # the middle of 3 × 3 equal codes: the decoder treats the border of an image differently
        image = vqgan.decode(part.view(-1, 1, 1).expand(-1, 3, 3)).clamp(-1, 1)
        tiles.append(image[:, :, f : 2 * f, f : 2 * f].cpu())
    grid = torch.cat([*tiles, torch.ones(-k % columns, 3, f, f)])
    grid = grid.view(-1, columns, 3, f, f).permute(2, 0, 3, 1, 4).reshape(3, -1, columns * f)
    return to_picture(grid)


@torch.no_grad()
def compare_reconstructions(
    names: Sequence[str], folder: str | Path, *, size: int = 96, count: int = 8, seed: int = 0
) -> Image.Image:
    """Held-out pictures of a folder in the top row, then a row of reconstructions for each VQGAN."""
    pictures = ImageDataset(find_pictures(Path(folder)), 2 * size)
    images = centre_crops(pictures, split_held_out(len(pictures), seed)[1][:count], size)
    rows = [images, *(load_vqgan(name)(images)[0].clamp(-1, 1) for name in names)]
    return to_picture(torch.cat([torch.cat(list(row), 2) for row in rows], 1))
