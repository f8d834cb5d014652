"""The starter transformer: codes of icons from captions."""

from __future__ import annotations

import random
import re
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recipes.clip import TextTower
from recipes.pictures import ICONS, STYLES, Picture, composite, dominant, ground, square, to_tensor, turn_hue
from recipes.text import DIM, WIDTH, article
from vqtools.core.device import choose_machine
from vqtools.core.state_file import load_state, save_state
from vqtools.models.gpt import GPT, CaptionEmbedding, GPTConfig
from vqtools.models.vqgan import VQGAN

SIDE, GRID, BATCH, WORDS = 96, 12, 64, 12
CONFIG = GPTConfig(
    vocab_size=1024, block_size=GRID * GRID + 1 + 2 + WORDS, layers=6, heads=4, width=288, grid=GRID,
    text_dim=DIM, text_tokens=2, word_dim=WIDTH, words=WORDS, styles=("any", *STYLES[1:]),
)  # fmt: skip
STATE_PARTS = {"gpt": "gpt", "averaged": "ema", "muon": "muon", "adam": "adam"}  # key in a state -> attribute
UNDRAWN = {"streamline", "kameleon"}  # outlines and badges: blind eyes named none of their drafts
# people, hands, flags, clocks, signs and letters: too many, too alike, and little asked for
LEFT_OUT = re.compile(
    r"flag|skin tone|\b(man|men|woman|women|person|people|boy|girl|baby|family|couple|kiss|hand|hands|finger|fist"
    r"|thumbs|mage|elf|fairy|vampire|zombie|genie|merperson|mermaid|merman|superhero|supervillain|prince|princess|guard|cook"
    r"|student|teacher|judge|farmer|mechanic|worker|scientist|technologist|singer|artist|pilot|astronaut|firefighter)\b"
    r"|o’clock|thirty|button|\bsign\b|square|circled|keycap|letter|input|symbol|arrow|japanese|aries|taurus|gemini"
    r"|virgo|libra|scorpio|sagittarius|capricorn|aquarius|pisces|ophiuchus|multiplication|division|plus|minus|mark"
    r"|bar|no |non-|prohibited|hieroglyph|squared|ideograph|index|file|document|chart|window|pointing",
    re.IGNORECASE,
)
COMMON = set(
    """
    apple banana orange lemon pear peach cherry cherries strawberry grapes watermelon pineapple tomato carrot
    corn mushroom eggplant avocado broccoli bread cheese pizza hamburger sandwich taco cookie donut doughnut
    cake cupcake chocolate candy lollipop honey egg coffee tea wine beer bottle cup mug spoon knife fork bowl
    milk ice cream cat dog mouse rabbit fox bear panda koala tiger lion cow pig frog monkey chicken penguin
    bird duck owl eagle bat wolf horse unicorn bee butterfly bug snail spider turtle snake fish dolphin whale
    octopus shrimp crab shark elephant giraffe zebra sheep goat camel dinosaur dragon tree palm cactus tulip
    rose sunflower flower blossom leaf clover maple sun moon star cloud rainbow snowflake snowman fire flame
    water drop droplet wave umbrella lightning house castle church tent bridge car taxi bus truck train
    bicycle motorcycle airplane plane rocket boat sailboat ship anchor balloon gift present bell book pencil
    pen key lock lamp bulb candle clock hourglass camera phone computer guitar piano violin drum trumpet ball
    soccer basketball football tennis crown hat glasses shoe boot dress shirt jeans ring gem diamond heart
    skull ghost robot alien pumpkin mountain volcano island globe envelope scissors hammer magnet chair bed
    door toilet trophy medal die dice teddy kite parachute planet comet honeybee beverage cooking automobile smiling
    """.split()  # noqa: SIM905
)


def things(pictures: list[Picture]) -> list[Picture]:
    """Icons of things."""
    return [p for p in pictures if p.source in ICONS and not LEFT_OUT.search(p.name)]


def common(picture: Picture) -> bool:
    """Whether it shows one of the things that people ask for."""
    return bool(COMMON & set(picture.name.lower().replace("-", " ").split()))


def often(picture: Picture, further: bool) -> int:
    """How many times as often as other icons it is shown; further training dwells on plain things' plain names."""
    if not further:
        return 5 if common(picture) else 1
    if picture.source in UNDRAWN:
        return 0
    if not common(picture):
        return 1
    return 20 if len(picture.name.replace("-", " ").split()) <= 3 else 5


class Codes:
    """Every picture several times as codes: on white, on coloured grounds, mirrored, with its hues turned.

    codes (n, 144) of int16; picture (n,) index; colours of the ground and of the thing as words, "" for none.
    """

    def __init__(
        self, pictures: list[Picture], vqgan: VQGAN, variants: int, seed: int, cache: Path | None = None
    ) -> None:
        self.pictures = pictures
        self.rows: list[tuple[int, str, str]] = []
        if cache and cache.exists():
            state = load_state(cache)
            self.rows, self.codes = [tuple(row) for row in state["rows"]], state["codes"]
        else:
            self.make(vqgan, variants, random.Random(f"{seed} codes"))
        if cache and not cache.exists():
            save_state(cache, {"rows": [list(row) for row in self.rows], "codes": self.codes})

    def make(self, vqgan: VQGAN, variants: int, rng: random.Random) -> None:
        out: list[Tensor] = []
        flats = []
        for variant in range(variants):
            for i, picture in enumerate(self.pictures):
                pixels, thing = picture.pixels, ""
                if variant % 3 == 2 and (thing := dominant(pixels)):
                    pixels = turn_hue(pixels, rng.randrange(256))
                    thing = dominant(pixels)
                elif rng.random() < 0.3:
                    thing = dominant(pixels)
                name, colour = ("white", (255, 255, 255)) if variant % 4 < 2 else ground(rng)
                flat = square(composite(pixels, colour), SIDE, 1.0, rng)
                flats.append(flat.transpose(0) if rng.random() < 0.5 else flat)
                self.rows.append((i, name, thing))
                if len(flats) == 64:
                    out.append(self.encode(vqgan, flats))
                    flats = []
        if flats:
            out.append(self.encode(vqgan, flats))
        self.codes = torch.cat(out)

    @staticmethod
    @torch.no_grad()
    def encode(vqgan: VQGAN, flats: list[Any]) -> Tensor:
        images = to_tensor(flats).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=choose_machine().precision == "bf16"):
            latents = vqgan.encode_latents(images)
        return vqgan.quantize(latents.float()).codes.flatten(1).to(torch.int16)

    def caption(self, row: int, rng: random.Random) -> str:
        i, ground_name, thing = self.rows[row]
        picture = self.pictures[i]
        name = picture.name if rng.random() < 0.8 or not picture.keywords else rng.choice(picture.keywords)
        name = f"{thing} {name}" if thing else name
        name = article(name) if rng.random() < 0.7 else name
        if ground_name != "white" or rng.random() < 0.1:
            name += f" on a {ground_name} background"
        return name


class TransformerTraining:
    """The transformer's training as a job; with ``begin`` a further one, from trained weights."""

    def __init__(
        self, codes: Codes, text: TextTower, *, seed: int, steps: int, begin: dict[str, Tensor] | None = None
    ) -> None:
        torch.manual_seed(seed)
        self.codes, self.text, self.seed, self.total, self.position = codes, text, seed, steps, 0
        self.further = begin is not None
        self.often = list(accumulate(often(codes.pictures[i], self.further) for i, _, _ in codes.rows))
        self.gpt = GPT(CONFIG)
        self.ema = GPT(CONFIG).requires_grad_(False).eval()
        if begin is not None:
            self.gpt.load_state_dict(begin)
            self.ema.load_state_dict(begin)
        matrices = [p for n, p in self.gpt.blocks.named_parameters() if p.ndim == 2]
        chosen = {id(p) for p in matrices}
        rest = [p for p in self.gpt.parameters() if id(p) not in chosen]
        self.muon = torch.optim.Muon(matrices, lr=0.02, weight_decay=0.01)
        self.adam = torch.optim.AdamW(rest, lr=2e-3, betas=(0.9, 0.95), weight_decay=0.0)

    def lr_factor(self) -> float:
        """Warm-up, then a fall over the second half; from trained weights half as high, and falling all the way."""
        left = (self.total - self.position) / (0.5 * self.total)
        most = 0.25 * left if self.further else 1.0
        return min(most, (self.position + 1) / 200, max(0.02, left))

    def batch(self) -> tuple[Tensor, CaptionEmbedding, Tensor]:
        rng = random.Random(f"{self.seed} transformer {self.position}")
        rows = rng.choices(range(len(self.codes.rows)), cum_weights=self.often, k=BATCH)
        texts = [self.codes.caption(r, rng) for r in rows]
        styles = [CONFIG.styles.index(self.codes.pictures[self.codes.rows[r][0]].source) for r in rows]
        style = torch.tensor([s if rng.random() < 0.85 else 0 for s in styles])
        words = self.text.words(texts, WORDS)
        whole = torch.tensor([rng.random() < 0.1 for _ in rows])  # no caption at all
        # either of the two ways to read a caption must do alone
        words = words * torch.tensor([rng.random() >= 0.1 for _ in rows])[:, None, None]
        return self.codes.codes[rows].long(), CaptionEmbedding(self.text(texts), words, style), whole

    def step(self) -> dict[str, float]:
        codes, caption, dropped = self.batch()
        for optimiser, lr in ((self.muon, 0.02), (self.adam, 2e-3)):
            for group in optimiser.param_groups:
                group["lr"] = lr * self.lr_factor()
        self.gpt.train()
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.gpt(codes[:, :-1], self.gpt.embed_caption(caption, dropped))[:, CONFIG.prefix_length - 1 :]
        loss = F.cross_entropy(logits.float().flatten(0, 1), codes.flatten())
        self.muon.zero_grad()
        self.adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.gpt.parameters(), 1.0)
        self.muon.step()
        self.adam.step()
        with torch.no_grad():
            for mean, now in zip(self.ema.parameters(), self.gpt.parameters(), strict=True):
                mean.lerp_(now, 1 - min(0.998, (self.position + 1) / (self.position + 10)))
        self.position += 1
        return {"loss": loss.item()}

    @torch.no_grad()
    def loss_on(self, codes: Codes) -> float:
        """Nats a code of the averaged weights on other pictures."""
        rng, out = random.Random(0), []
        for start in range(0, len(codes.rows), 64):
            rows = list(range(start, min(start + 64, len(codes.rows))))
            texts = [codes.caption(r, rng) for r in rows]
            styles = torch.zeros(len(rows), dtype=torch.int64)
            caption = CaptionEmbedding(self.text(texts), self.text.words(texts, WORDS), styles)
            target = codes.codes[rows].long()
            logits = self.ema(target[:, :-1], self.ema.embed_caption(caption))[:, CONFIG.prefix_length - 1 :]
            out.append(float(F.cross_entropy(logits.flatten(0, 1), target.flatten())) * len(rows))
        return float(np.sum(out) / len(codes.rows))

    def state_dict(self) -> dict[str, Any]:
        parts = {key: getattr(self, name).state_dict() for key, name in STATE_PARTS.items()}
        return {"position": self.position, **parts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]
        for key, name in STATE_PARTS.items():
            getattr(self, name).load_state_dict(state[key])
