"""The starters' figures on the held-out shard: ``python -m recipes.measure --data FOLDER``."""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import torch
import torch.nn.functional as F

from recipes.pictures import ICONS, Picture, composite, ground, read, square, to_tensor
from vqtools.models.quantizers import codebook_usage
from vqtools.weights.load import load_clip, load_vqgan


@torch.no_grad()
def reconstruction(pictures: list[Picture], side: int, seed: int = 0) -> dict[str, float]:
    """PSNR in dB (mean over pictures) and codebook use of held-out icons on seeded coloured grounds."""
    vqgan, rng = load_vqgan("starter"), random.Random(seed)
    flats = [square(composite(p.pixels, ground(rng)[1]), side, 1.0, rng) for p in pictures if p.source in ICONS]
    decibels, used = [], []
    for start in range(0, len(flats), 32):
        images = to_tensor(flats[start : start + 32])
        codes = vqgan.encode(images)
        error = (vqgan.decode(codes).clamp(-1, 1) - images).div(2).square().mean((1, 2, 3))
        decibels.append(-10 * error.log10())
        used.append(codes.flatten())
    share, spread = codebook_usage(torch.cat(used), vqgan.config.codebook_size)
    return {"psnr": float(torch.cat(decibels).mean()), "codes used": share, "perplexity": spread}


@torch.no_grad()
def recall(pictures: list[Picture], side: int = 112) -> dict[str, float]:
    """Share of held-out pictures, on white, whose own name is among the nearest of the set's names."""
    clip, rng = load_clip("starter"), random.Random(0)
    names = sorted({p.name for p in pictures})
    texts = clip.embed_text(names)
    flats = [square(composite(p.pixels, (255, 255, 255)), side, 1.0, rng) for p in pictures]
    seen = torch.cat([clip.embed_image(fit(flats[i : i + 64], clip.size)) for i in range(0, len(flats), 64)])
    rank = (seen @ texts.T).argsort(dim=1, descending=True)
    mine = torch.tensor([names.index(p.name) for p in pictures])[:, None]
    return {f"recall@{k}": float((rank[:, :k] == mine).any(1).float().mean()) for k in (1, 5)}


def fit(flats: list, size: int) -> torch.Tensor:  # type: ignore[type-arg]
    images = to_tensor(flats).add(1).div(2)
    return F.interpolate(images, size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)


def measure(data: Path) -> dict[str, dict[str, float]]:
    held_out = read(data, "val-*.tar.gz")
    return {
        "vqgan at 64 px": reconstruction(held_out, 64),
        "vqgan at 112 px": reconstruction(held_out, 112),
        "clip": recall(held_out),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    print(json.dumps(measure(parser.parse_args().data), indent=1))
