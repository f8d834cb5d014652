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
from vqtools.core.device import choose_machine
from vqtools.core.state_file import load_state, save_state
from vqtools.models.gpt import GPT, CaptionEmbedding, GPTConfig
from vqtools.models.vqgan import VQGAN
from vqtools.training.code_dataset import CodeBatches, CodeTable
from vqtools.training.settings import TransformerStageSettings
from vqtools.training.transformer_stage import TransformerStage

SIDE, GRID, BATCH, WORDS = 96, 12, 32, 12
CONFIG = GPTConfig.for_infilling(
    1024, GRID, patch=2, layers=6, heads=4, width=288, text_dim=DIM, text_tokens=2, word_dim=WIDTH, words=WORDS,
    styles=ICONS_CONFIG.styles,
)  # fmt: skip
# squares of a picture of each source and of one whose kind was seen, and how many pictures of one name it may bring
SQUARES = {"ambientcg": 6, "flowers": 3, "pomological-hq": 2, "pomological": 1, "met": 2, "artbreaker": 2,
           "documerica": 2, "culturecraft": 3}  # fmt: skip
SEEN = 32
MOST = {"flowers": 240, "pomological": 60, "pomological-hq": 60}
# what was seen to show a kind and nothing beside it; a name alone says too little
LANDS = {
    "Hagar in the Wilderness", "Heart of the Andes", "Jalais Hill, Pontoise",
    "Landscape with Cows Watering in a Stream",
    "View from Mount Holyoke, Northampton, Massachusetts, after a Thunderstorm—The Oxbow", "Autumn Oaks",
    "The Rocky Mountains, Lander's Peak", "View on the Catskill—Early Autumn", "The Valley of Wyoming",
    "Wheat Field with Cypresses", "Wheat Fields", "Lake George and the Village of Caldwell",
    "Young Ladies of the Village", "Winter Scene in Moonlight", "Haystacks: Autumn", "Pines Along the Shore",
}  # fmt: skip
SKIES = LANDS - {"Pines Along the Shore", "Landscape with Cows Watering in a Stream"} | {
    "Cider Making", "The Pink Cloud", "Whalers",
    "Stage Fort across Gloucester Harbor", "A Gorge in the Mountains (Kauterskill Clove)", "Lake George",
    "The Champion Single Sculls (Max Schmitt in a Single Scull)", "At the Seaside",
}  # fmt: skip
SEAS = {
    "An October Day", "The Gulf Stream", "Northeaster", "The Thomas Hunt and the America", "Eaton's Neck, Long Island",
    "At the Seaside", "Sunset on the Sea", "Under the Wave off Kanagawa (Kanagawa oki nami ura)", "Breaking Waves",
}  # fmt: skip
STARS = {
    "Most Detailed Image of the Crab Nebula", "Orion Nebula and Bow Shock", "Dusty Space Cloud", "A Royal Celebration",
    "Assembly Line of Stars", "Hubble reveals heart of Lagoon Nebula", "The Two-faced Whirlpool Galaxy",
    "Cat's Paw Image 1", "A Cauldron of Stars at the Galaxy Center", "Godzilla Nebula Imaged by Spitzer",
    "A Galactic Spectacle", "The Little Fox and the Giant Stars", "Dragonfish Coming At You in Infrared",
    "Crab Nebula, as Seen by Herschel and Hubble", "History of Hubble Space Telescope (HST)",
    "Great Observatories Unique Views of the Milky Way", "Hubble Sees a Horsehead of a Different Color",
    "Light and Shadow in the Carina Nebula", "Cygnus Loop Nebula", "The Case of the Warped Galactic Ring",
    "The Seven Sisters Pose for Spitzer", "Ionized Carbon Atoms in Orion",
}  # fmt: skip
SKY_TEXTS = ("sky", "a cloudy sky", "clouds", "the sky with clouds")
LAND_TEXTS = ("a landscape with trees and sky", "a landscape", "an oil painting of a landscape", "hills and sky")
SEA_TEXTS = ("the sea", "waves", "the sea under a cloudy sky", "an oil painting of the sea")
STARS_TEXTS = ("stars in space", "a nebula", "the night sky", "a galaxy of stars")
EARTH = re.compile(
    r"earth obs|dunes|desert|mtns|alluvial|pilbara|caldera|delta|crater|layers|ancient rivers", re.IGNORECASE
)
CLOTH = re.compile(r"textile|quilt|fragment|tissus|fabric|embroider|mosai|pattern|ceiling|mantle|sidewall|lace|serape"
                   r"|arabesque|tunic|brokat|border", re.IGNORECASE)  # fmt: skip
WALLS = {
    "bricks": ("a brick wall", "a wall of bricks", "brick wall"), "rock": ("a wall of rock", "stone", "a cliff"),
    "rocks": ("stones", "a heap of stones"), "gravel": ("pebbles", "gravel", "a gravel path"),
    "paving stones": ("a pavement", "cobblestones"), "grass": ("a meadow", "a lawn", "green grass"),
    "moss": ("green moss", "grass"), "wood floor": ("a wooden floor", "parquet"), "planks": ("planks", "a fence"),
    "wood": ("wood", "wooden board"), "tiles": ("a tiled wall", "a tiled floor"), "ground": ("soil", "earth", "sand"),
    "snow": ("snow", "a field of snow"), "roofing tiles": ("a tiled roof", "a roof"), "marble": ("marble",),
    "concrete": ("a concrete wall",), "rust": ("rusty metal",), "bark": ("the bark of a tree",),
}  # fmt: skip
STONE_WALL, GREY = ("a stone wall", "a wall of stones", "stone wall"), 16  # what bricks without much colour look like
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
        grey = name == "bricks" and float(np.ptp(picture.pixels[..., :3].mean((0, 1)))) < GREY
        return [f"{name} texture", name, *(STONE_WALL if grey else WALLS.get(name, (f"a wall of {name}",)))]
    if picture.source == "flowers":
        many = FLOWERS[name]
        return [f"photo of {many}", many, f"a meadow of {many}", f"a field of {many}", "a flower meadow", "flowers"]
    if picture.source.startswith("pomological"):
        return [f"watercolor painting of {name}", name, f"{name}, botanical illustration", f"{name} on paper"]
    if CLOTH.search(name):
        return [name, "a patterned cloth", "a colourful pattern", "a carpet pattern"]
    if EARTH.search(name):
        return [name, "the earth from above", "a desert from above"]
    kind = "a 1970s photograph" if picture.source == "documerica" else "an oil painting"
    return [name, f"{kind}, {name}", kind]


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
            for k in range(count(picture)):
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
        with torch.autocast("cpu", torch.bfloat16, enabled=choose_machine().precision == "bf16"):
            latents = vqgan.encode_latents(images)
        return vqgan.quantize(latents.float()).codes.to(torch.int32)

    def table(self) -> CodeTable:
        return CodeTable(self.codes, tuple(range(len(self.codes))))


def count(picture: Picture) -> int:
    """How many squares a picture brings."""
    return SEEN if picture.name in LANDS | SKIES | SEAS | STARS | {"grass", "moss"} else SQUARES[picture.source]


def square(picture: Picture, k: int, rng: random.Random) -> tuple[Image.Image, list[str]]:
    """The k-th square of a picture, and what it may be called."""
    image, names, scale, high = Image.fromarray(picture.pixels[..., :3]), texts(picture), rng.uniform(0.7, 1.0), 1.0
    if picture.source == "ambientcg":  # textures join at their borders: any square of the endless wall will do
        image, scale = Image.fromarray(np.tile(picture.pixels[..., :3], (2, 2, 1))), rng.uniform(0.18, 0.4)
    elif picture.source not in ("flowers", "culturecraft"):  # frames, and borders of a slide
        inset = round(0.04 * min(image.size))
        image = image.crop((inset, inset, image.width - inset, image.height - inset))
    if picture.name in SKIES and (k % 2 or picture.name not in LANDS | SEAS):
        scale, high, names = rng.uniform(0.3, 0.5), 0.06, [*SKY_TEXTS]
    elif picture.name in LANDS:
        names = [*LAND_TEXTS]
    elif picture.name in SEAS:
        scale, high, names = rng.uniform(0.5, 1.0), 1.0, [*SEA_TEXTS]
    elif picture.name in STARS:
        scale, names = rng.uniform(0.4, 1.0), [*STARS_TEXTS]
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

    def __call__(self, texts: Sequence[str]) -> CaptionEmbedding:
        rows = [self.number[text] for text in texts]
        return CaptionEmbedding(self.text[rows], self.words[rows], torch.zeros(len(rows), dtype=torch.int64))


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
    squares: Squares, held: Squares, tower: TextTower, gpt: GPT, *, seed: int, steps: int, rate: float = 1e-3
) -> tuple[TransformerStage, Callable[[], dict[str, float]]]:
    """The training as a job, and what it measures on held-out pictures: nats a code of a whole window, and of holes."""
    torch.manual_seed(seed)
    gpt.requires_grad_(True).train()
    reader = Reader(tower, [name for names in (*squares.names, *held.names) for name in names])
    batches = CodeBatches(
        squares.table(), CONFIG, BATCH, seed=seed, captions=squares.names, captioner=reader
    )  # fmt: skip
    settings = TransformerStageSettings(
        steps=steps, learning_rate=rate, optimiser="muon", weight_decay=0.01, warmup=40, ema=0.99, seed=seed
    )
    job = TransformerStage(
        settings, gpt, batches, precision=torch.bfloat16 if choose_machine().precision == "bf16" else None
    )
    measured = CodeBatches(held.table(), CONFIG, 1, seed=seed, captions=held.names, captioner=reader)

    def measure() -> dict[str, float]:
        return {
            "whole": job.measure(measured.evaluation_batches()),
            "holes": job.measure(measured.evaluation_batches(drawn_holes=True)),
        }

    return job, measure
