"""Measure the starter models on the held-out shard: ``python -m recipes.measure --data FOLDER``."""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from recipes.pictures import ICONS, Picture, composite, ground, read, square, to_tensor
from vqtools.models.quantizers import codebook_usage
from vqtools.weights.load import load_clip, load_vqgan


@torch.no_grad()
def measure_reconstruction(pictures: list[Picture], side: int, seed: int = 0) -> dict[str, float]:
    """Return mean PSNR in dB and codebook usage for held-out icons on random coloured backgrounds, at side² pixels."""
    vqgan, rng = load_vqgan("starter"), random.Random(seed)
    icons = [square(composite(p.pixels, ground(rng)[1]), side, 1.0, rng) for p in pictures if p.source in ICONS]
    psnr, codes_used = [], []
    for start in range(0, len(icons), 32):
        images = to_tensor(icons[start : start + 32])
        codes = vqgan.encode(images)
        error = (vqgan.decode(codes).clamp(-1, 1) - images).div(2).square().mean((1, 2, 3))
        psnr.append(-10 * error.log10())
        codes_used.append(codes.flatten())
    fraction, perplexity = codebook_usage(torch.cat(codes_used), vqgan.config.codebook_size)
    return {"psnr": float(torch.cat(psnr).mean()), "codes used": fraction, "perplexity": perplexity}


@torch.no_grad()
def measure_recall(pictures: list[Picture], side: int = 112) -> dict[str, float]:
    """Return the fraction of held-out pictures, on white, whose own name CLIP ranks first, or among the first five."""
    clip, rng = load_clip("starter"), random.Random(0)
    names = sorted({p.name for p in pictures})
    texts = clip.embed_text(names)
    squares = [square(composite(p.pixels, (255, 255, 255)), side, 1.0, rng) for p in pictures]
    batches = [squares[start : start + 64] for start in range(0, len(squares), 64)]
    embeddings = torch.cat([clip.embed_image(resize_for_clip(batch, clip.size)) for batch in batches])
    ranking = (embeddings @ texts.T).argsort(dim=1, descending=True)
    own = torch.tensor([names.index(p.name) for p in pictures])[:, None]
    return {f"recall@{k}": float((ranking[:, :k] == own).any(1).float().mean()) for k in (1, 5)}


def resize_for_clip(pictures: list[Image.Image], size: int) -> Tensor:
    """Return pictures as images (n, 3, size, size) in [0, 1]."""
    images = to_tensor(pictures).add(1).div(2)
    return F.interpolate(images, size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)


def measure(data: Path) -> dict[str, dict[str, float]]:
    """Return all measures of the starter models on the held-out shard in a folder."""
    held_out = read(data, "val-*.tar.gz")
    return {
        "vqgan at 64 px": measure_reconstruction(held_out, 64),
        "vqgan at 112 px": measure_reconstruction(held_out, 112),
        "clip": measure_recall(held_out),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    print(json.dumps(measure(parser.parse_args().data), indent=1))
