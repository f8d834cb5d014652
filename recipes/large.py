"""The starter for large pictures: windows of paintings, walls, meadows and fruits from captions, and with holes.

Every square is a part of something wider, so that the window can walk on from it in any direction.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from recipes.clip import TextTower
from recipes.pictures import Picture, by_source, to_tensor
from recipes.text import DIM, WIDTH
from recipes.transformer import CONFIG as ICONS_CONFIG
from vqtools.device import choose
from vqtools.jobs import load_state, save_state
from vqtools.models.gpt import GPT, Caption, GPTConfig
from vqtools.models.vqgan import VQGAN
from vqtools.training.codes import CodeBatches, CodeTable
from vqtools.training.settings import Stage2Settings
from vqtools.training.stage2 import Stage2

SIDE, GRID, BATCH, WORDS = 96, 12, 32, 12
CONFIG = GPTConfig.filling(
    1024, GRID, patch=2, layers=6, heads=4, width=288, text_dim=DIM, text_tokens=2, word_dim=WIDTH, words=WORDS,
    styles=ICONS_CONFIG.styles,
)  # fmt: skip
# squares of a picture of each source, and how many pictures of one name it may bring
SQUARES = {"ambientcg": 6, "flowers": 4, "pomological-hq": 3, "pomological": 2, "met": 8, "artbreaker": 6,
           "documerica": 6, "culturecraft": 4}  # fmt: skip
MOST = {"flowers": 240, "pomological": 60, "pomological-hq": 60}
SEA = re.compile(r"\bsea\b|seaside|wave|shore|northeaster|harbor|cove|whalers|gulf stream|niagara|ocean|shipping", re.I)
SPACE = re.compile(r"nebula|galax|stars?\b|cosmic|space cloud|milky|carina|cygnus|orion\b|eye of god", re.I)
EARTH = re.compile(r"earth obs|dunes|desert|mtns|alluvial|pilbara|caldera|delta|crater|layers|ancient rivers", re.I)
CLOTH = re.compile(r"textile|quilt|fragment|tissus|fabric|embroider|mosai|pattern|ceiling|mantle|sidewall|lace|serape"
                   r"|arabesque|tunic|brokat|border", re.I)  # fmt: skip
LAND = re.compile(
    r"landscape|view|hill|mountain|andes|field|valley|oaks|beeches|poplar|forest|lake|autumn|october|october|sunset"
    r"|moonlight|storm|cypress|haystack|garden|trees|gorge|winter|bridge|pond|pines|wilderness|meadow|toledo|seine"
    r"|national park|lake|adirondack|big sur|maui|hawaii|alaska|arizona|\(utah\)|\(colo\.\)|\(calif\.\)|everglades",
    re.I,
)
WALLS = {
    "bricks": ("a brick wall", "a wall of bricks", "brick wall"), "rock": ("a wall of rock", "stone", "a cliff"),
    "rocks": ("stones", "a stone wall"), "gravel": ("pebbles", "gravel", "a gravel path"),
    "paving stones": ("a pavement", "cobblestones", "a stone wall"), "grass": ("a meadow", "a lawn", "green grass"),
    "moss": ("green moss", "grass"), "wood floor": ("a wooden floor", "parquet"), "planks": ("planks", "a fence"),
    "wood": ("wood", "wooden board"), "tiles": ("a tiled wall", "a tiled floor"), "ground": ("soil", "earth", "sand"),
    "snow": ("snow", "a field of snow"), "roofing tiles": ("a tiled roof", "a roof"), "marble": ("marble",),
    "concrete": ("a concrete wall",), "rust": ("rusty metal",), "bark": ("the bark of a tree",),
}  # fmt: skip
FLOWERS = {"daisy": "daisies", "dandelion": "dandelions", "tulips": "tulips", "sunflowers": "sunflowers",
           "roses": "roses"}  # fmt: skip


def scenes(pictures: Sequence[Picture]) -> list[Picture]:
    """The pictures that can be parts of a wide one."""
    return [
        p for source in SQUARES for p in by_source([p for p in pictures if p.source == source], MOST.get(source, 999))
    ]


def texts(picture: Picture) -> list[str]:
    """What a person may call it."""
    name = picture.name
    if picture.source == "ambientcg":
        return [f"{name} texture", name, *WALLS.get(name, (f"a wall of {name}",))]
    if picture.source == "flowers":
        many = FLOWERS[name]
        return [f"photo of {many}", many, f"a meadow of {many}", f"a field of {many}", "a flower meadow", "flowers"]
    if picture.source.startswith("pomological"):
        return [f"watercolor painting of {name}", name, f"{name}, botanical illustration", f"{name} on paper"]
    kind = "a 1970s photograph" if picture.source == "documerica" else "an oil painting"
    out = [name, f"{kind}, {name}"]
    if SPACE.search(name):
        return [name, "stars in space", "a nebula", "the night sky", "a galaxy of stars"]
    if CLOTH.search(name):
        return [name, "a patterned cloth", "a colourful pattern", "a carpet pattern"]
    if EARTH.search(name):
        return [name, "the earth from above", "a desert from above"]
    if SEA.search(name):
        return [*out, f"{kind} of the sea", "the sea", "waves", "the sea under a cloudy sky"]
    if LAND.search(name):
        return [*out, f"{kind} of a landscape", "a landscape", "a landscape with trees and sky", "hills and sky"]
    return [*out, kind]


class Squares:
    """Squares as codes, with what they may be called. rows: (picture, texts); codes (n, 1, h, w)."""

    def __init__(self, pictures: list[Picture], vqgan: VQGAN, rng: random.Random, cache: Path | None = None) -> None:
        self.pictures = pictures
        if cache and cache.exists():
            state = load_state(cache)
            self.names, self.codes = [list(row) for row in state["names"]], state["codes"]
            return
        self.names, flats, found = list[list[str]](), list[Image.Image](), list[Tensor]()
        for picture in pictures:
            for k in range(SQUARES[picture.source]):
                flat, names = square(picture, k, rng)
                self.names.append(names)
                flats.append(flat)
                if len(flats) == 64:
                    found.append(self.encode(vqgan, flats))
                    flats = []
        if flats:
            found.append(self.encode(vqgan, flats))
        self.codes = torch.cat(found)[:, None]
        if cache:
            save_state(cache, {"names": self.names, "codes": self.codes})

    @staticmethod
    @torch.no_grad()
    def encode(vqgan: VQGAN, flats: list[Image.Image]) -> Tensor:
        images = to_tensor(flats).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=choose().precision == "bf16"):
            latents = vqgan.encode_latents(images)
        return vqgan.quantize(latents.float()).codes.to(torch.int32)

    def table(self) -> CodeTable:
        return CodeTable(self.codes, tuple(range(len(self.codes))))


def square(picture: Picture, k: int, rng: random.Random) -> tuple[Image.Image, list[str]]:
    """The k-th square of a picture, and what it may be called."""
    pixels, names = picture.pixels[..., :3], texts(picture)
    scale, high = rng.uniform(0.7, 1.0), 1.0
    if picture.source == "ambientcg":  # textures join at their borders: any square of the endless wall will do
        pixels, scale = np.tile(pixels, (2, 2, 1)), rng.uniform(0.35, 0.55)
    elif names[-1] == "hills and sky" and k % 4 == 3:  # the upper part of a landscape is a sky
        scale, high, names = rng.uniform(0.4, 0.55), 0.1, ["sky", "a cloudy sky", "clouds", "the sky with clouds"]
    image = Image.fromarray(pixels)
    length = scale * min(image.size)
    left, top = rng.random() * (image.width - length), rng.random() * high * (image.height - length)
    flat = image.resize((SIDE, SIDE), Image.Resampling.LANCZOS, box=(left, top, left + length, top + length))
    return flat.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else flat, names


class Reader:
    """Captions by the text tower, each read once and kept."""

    def __init__(self, tower: TextTower, texts: Sequence[str]) -> None:
        unique = sorted({"", *texts})
        self.number = {text: i for i, text in enumerate(unique)}
        with torch.no_grad():
            parts = [unique[i : i + 256] for i in range(0, len(unique), 256)]
            self.text = torch.cat([tower(part) for part in parts])
            self.words = torch.cat([tower.words(part, WORDS) for part in parts])

    def __call__(self, texts: Sequence[str]) -> Caption:
        rows = [self.number[text] for text in texts]
        return Caption(self.text[rows], self.words[rows], torch.zeros(len(rows), dtype=torch.int64))


def grown(icons: GPT) -> GPT:
    """The transformer of icons with places for the condition: it knows how codes go together already."""
    gpt, c = GPT(CONFIG), CONFIG
    tensors = dict(icons.state_dict())
    codes, captions, width = c.vocab_size - 1, c.caption_tokens, c.width
    for name in ("tok_emb.weight", "head.weight"):  # the mask code begins as nothing
        tensors[name] = torch.cat([tensors[name][:codes], torch.zeros(1, width)])
    places = tensors["pos_emb"][0]
    patches = places[captions:].view(GRID // 2, 2, GRID // 2, 2, width).mean((1, 3)).flatten(0, 1)
    tensors["pos_emb"] = torch.cat([places[:captions], patches, places[captions:]])[None]
    tensors["patch_proj.weight"] = 0.25 * torch.eye(width).repeat(1, c.patch**2)  # a patch as the mean of its codes
    tensors["patch_proj.bias"] = torch.zeros(width)
    gpt.load_state_dict(tensors)
    return gpt


def training(
    squares: Squares, held: Squares, tower: TextTower, icons: GPT, *, seed: int, steps: int
) -> tuple[Stage2, Callable[[], dict[str, float]]]:
    """The training as a job, and what it measures on held-out pictures: nats a code of a whole window, and of holes."""
    torch.manual_seed(seed)
    gpt = grown(icons).requires_grad_(True).train()
    reader = Reader(tower, [name for names in (*squares.names, *held.names) for name in names])
    batches = CodeBatches(
        squares.table(), CONFIG, BATCH, seed=seed, captions=squares.names, captioner=reader
    )  # fmt: skip
    settings = Stage2Settings(
        steps=steps, learning_rate=1e-3, optimiser="muon", weight_decay=0.01, warmup=40, ema=0.99, seed=seed
    )
    job = Stage2(settings, gpt, batches, precision=torch.bfloat16 if choose().precision == "bf16" else None)
    measured = CodeBatches(held.table(), CONFIG, 1, seed=seed, captions=held.names, captioner=reader)

    def measure() -> dict[str, float]:
        return {
            "whole": job.measure(measured.all()),
            "holes": job.measure(measured.all(drawn_holes=True)),
        }

    return job, measure
