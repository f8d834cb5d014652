"""Captioned pictures for the starters: shards in, composited and augmented pictures with their captions out.

Everything random is drawn from a generator that the caller hands in.
"""

from __future__ import annotations

import io
import json
import random
import tarfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

COLOURS = {
    "white": (255, 255, 255), "black": (20, 20, 22), "grey": (150, 150, 152), "red": (222, 48, 48),
    "orange": (246, 140, 40), "yellow": (250, 214, 60), "green": (74, 172, 74), "blue": (58, 112, 222),
    "light blue": (140, 200, 245), "purple": (140, 80, 190), "pink": (246, 150, 190), "brown": (130, 88, 56),
    "turquoise": (64, 196, 190),
}  # fmt: skip
ICONS = {"fluent3d", "twemoji", "noto", "emojitwo", "fluentflat", "fxemoji", "streamline", "blobmoji", "kameleon"}
STYLES = ["", "fluent3d", "twemoji", "noto", "emojitwo", "fluentflat", "fxemoji", "streamline", "blobmoji", "kameleon"]


@dataclass(frozen=True)
class Picture:
    pixels: np.ndarray  # (h, w, 4) of uint8
    name: str
    caption: str
    keywords: tuple[str, ...]
    source: str
    key: str
    credit: str
    licence: str


def read(folder: Path, pattern: str = "train-*.tar.gz") -> list[Picture]:
    """All pictures of the shards ``pattern`` in a folder, decoded, in the shards' order."""
    shards = sorted(folder.glob(pattern))
    if not shards:
        raise SystemExit(f"no shards {pattern} in {folder}")
    out = []
    for shard in shards:
        parts: dict[str, dict[str, bytes]] = defaultdict(dict)
        with tarfile.open(shard) as tar:
            for member in tar:
                if member.isfile() and (file := tar.extractfile(member)):
                    stem, _, kind = Path(member.name).name.rpartition(".")
                    parts[stem][kind] = file.read()
        for key, part in sorted(parts.items()):
            meta = json.loads(part["json"])
            pixels = np.asarray(Image.open(io.BytesIO(part["webp"])).convert("RGBA"))
            keywords = tuple(w.strip() for w in meta["keywords"].split(",") if w.strip())
            told = (meta["source"], key, meta["credit"], meta["licence"])
            out.append(Picture(pixels, meta["name"], meta["caption"], keywords, *told))
    return out


def ground(rng: random.Random) -> tuple[str, tuple[int, int, int]]:
    """A named colour, jittered."""
    name = rng.choice(list(COLOURS))
    spread = 0 if name == "white" else 14
    r, g, b = (min(255, max(0, c + rng.randint(-spread, spread))) for c in COLOURS[name])
    return name, (r, g, b)


def composite(pixels: np.ndarray, colour: tuple[int, int, int]) -> Image.Image:
    picture = Image.fromarray(pixels)
    base = Image.new("RGBA", picture.size, (*colour, 255))
    return Image.alpha_composite(base, picture).convert("RGB")


def turn_hue(pixels: np.ndarray, shift: int) -> np.ndarray:
    """Pixels (h, w, 4) with their hues turned by ``shift`` of 256 steps; alpha kept."""
    hsv = np.array(Image.fromarray(pixels).convert("RGB").convert("HSV"))
    hsv[..., 0] += np.uint8(shift)
    rgb = np.array(Image.fromarray(hsv, "HSV").convert("RGB"))
    return np.dstack([rgb, pixels[..., 3]])


def dominant(pixels: np.ndarray) -> str:
    """The name of the colour that fills most of an icon, or "" where none fills more than half of it."""
    solid = pixels[pixels[..., 3] > 128][:, :3]
    if len(solid) < 50:
        return ""
    hsv = np.array(Image.fromarray(solid[None]).convert("HSV"))[0].astype(int)
    h, s, v = hsv.T
    names = np.full(len(h), "", dtype=object)
    for name, low, high in [("red", 246, 256), ("red", 0, 10), ("orange", 10, 27), ("yellow", 27, 45),
                            ("green", 45, 105), ("turquoise", 105, 132), ("blue", 132, 178), ("purple", 178, 210),
                            ("pink", 210, 246)]:  # fmt: skip
        names[(h >= low) & (h < high)] = name
    names[(names == "orange") & (v < 165)] = "brown"
    names[(names == "red") & (s < 130) & (v > 200)] = "pink"
    names[s < 50] = "grey"
    names[(s < 50) & (v > 225)] = "white"
    names[v < 60] = "black"
    found, counts = np.unique(names.astype(str), return_counts=True)
    best = int(counts.argmax())
    return str(found[best]) if counts[best] > 0.5 * len(h) else ""


def square(picture: Image.Image, side: int, scale: float, rng: random.Random) -> Image.Image:
    """A square of ``side`` pixels out of the picture enlarged so that its short side is ``scale`` times that."""
    short = max(side, round(side * scale))
    ratio = short / min(picture.size)
    size = (max(side, round(picture.width * ratio)), max(side, round(picture.height * ratio)))
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    x, y = rng.randint(0, size[0] - side), rng.randint(0, size[1] - side)
    return picture.crop((x, y, x + side, y + side))


def to_tensor(pictures: list[Image.Image]) -> Tensor:
    """Pictures of one size -> (b, 3, H, W) in [-1, 1], channels last in memory."""
    pixels = torch.from_numpy(np.stack([np.asarray(p) for p in pictures]))
    return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def by_source(pictures: list[Picture], cap: int) -> list[Picture]:
    """At most ``cap`` pictures of each source and name: no flower or apple may crowd out the rest."""
    seen: dict[tuple[str, str], int] = defaultdict(int)
    out = []
    for picture in pictures:
        seen[picture.source, picture.name] += 1
        if seen[picture.source, picture.name] <= cap:
            out.append(picture)
    return out
