"""A judge beside the eyes: an ImageNet network that neither training nor guidance of the starters has touched.

    python -m recipes.judge --data FOLDER            # may it be believed? real pictures, textures, the rounds' sheets

EfficientNet-Lite2's features, and a linear layer that tells the prompts' things apart, and all else from them, fitted
to real icons. What it says is quoted as quality only while icon sets it was not fitted to pass, textures fail, and the
rounds of blind naming stand in the eyes' order.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from recipes.naming import FOLDER, contains_answer, crop_picture, sheet_order
from recipes.pictures import ICONS, Picture, composite, ground, read
from recipes.vqgan import pretrained_tower
from vqtools.core.state_file import load_state

SIDE = 260
HELD = "noto"  # the icon set that a judge on trial is not fitted to
Sample = tuple[int, Image.Image]  # which prompt's thing a picture shows, or should show


class Features:
    """Pictures -> unit features (n, 1408) of EfficientNet-Lite2 as a package ships it (Apache-2.0)."""

    def __init__(self) -> None:
        self.net: Any = pretrained_tower("lite2").eval()

    @torch.no_grad()
    def __call__(self, pictures: list[Image.Image]) -> Tensor:
        out = []
        for start in range(0, len(pictures), 32):
            flats = [
                p.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC) for p in pictures[start : start + 32]
            ]
            images = torch.from_numpy(np.stack([np.array(flat) for flat in flats])).permute(0, 3, 1, 2)
            maps = self.net.forward_features(images.float().div(127.5).sub(1))
            out.append(F.normalize(self.net.forward_head(maps, pre_logits=True), dim=1))
        return torch.cat(out)


def things() -> dict[int, list[str]]:
    """Place in the list of prompts -> the names that count, for the prompts that ask for one plain thing."""
    entries = json.loads((FOLDER / "prompts.json").read_text())
    return {i: entry["answers"] for i, entry in enumerate(entries) if "colour" not in entry}


def thing_of(name: str) -> int | None:
    """The prompt that a picture of this name would answer, if there is just one; the first answer counts."""
    found = [i for i, answers in things().items() if contains_answer(name, answers[:1])]
    return found[0] if len(found) == 1 else None


class Judge:
    """Fitted to icons; asked, it says which of the things it sees, or none (-1)."""

    def __init__(self, features: Features, pictures: list[Picture], seed: int = 0) -> None:
        self.features, rng = features, random.Random(seed)
        mine = [(thing, p) for p in pictures if (thing := thing_of(p.name)) is not None]
        others = rng.sample([p for p in pictures if thing_of(p.name) is None], 600)
        self.labels = [*things(), -1]
        flats, wanted = [], []
        for thing, picture in [*mine, *((-1, p) for p in others)]:
            for colour in ((255, 255, 255), ground(rng)[1]) if thing >= 0 else (ground(rng)[1],):
                flats.append(composite(picture.pixels, colour))
                wanted.append(self.labels.index(thing))
        x, y = features(flats), torch.tensor(wanted)
        torch.manual_seed(seed)
        self.layer = torch.nn.Linear(x.shape[1], len(self.labels))
        solver = torch.optim.LBFGS(self.layer.parameters(), max_iter=100, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            solver.zero_grad()
            out = F.cross_entropy(self.layer(20 * x), y) + 2e-3 * self.layer.weight.square().sum()
            out.backward()  # type: ignore[no-untyped-call]
            return out

        solver.step(loss)  # type: ignore[arg-type]

    @torch.no_grad()
    def __call__(self, pictures: list[Image.Image]) -> list[int]:
        scores = self.layer(20 * self.features(pictures)) + self.layer(
            20 * self.features([p.transpose(0) for p in pictures])
        )
        return [self.labels[i] for i in scores.argmax(1).tolist()]

    def share(self, samples: list[Sample]) -> float:
        """Share of pictures that show it what they should."""
        return sum(a == b for a, (b, _) in zip(self([p for _, p in samples]), samples, strict=True)) / len(samples)


def cells(round_: int) -> list[Sample]:
    """The plain prompts' pictures out of a round's sheet (recipes.naming lays it out)."""
    page, wanted, out = Image.open(FOLDER / f"round-{round_}.jpg"), things(), []
    for place, index in enumerate(sheet_order(round_)):
        if index in wanted:
            out.append((index, crop_picture(page, place)))
    return out


def real(pictures: list[Picture]) -> list[Sample]:
    named = [(thing_of(p.name), p) for p in pictures]
    return [(thing, composite(p.pixels, (255, 255, 255))) for thing, p in named if thing is not None]


def textures(file: Path) -> list[Sample]:
    """What unanchored guidance made for these things (``--only textures`` of recipes.starter)."""
    state, out = load_state(file), []
    for image, text in zip(state["images"], state["texts"], strict=True):
        if (thing := thing_of(text)) is not None:
            pixels = image.float().add(127).clamp(0, 254).mul(255 / 254).byte().permute(1, 2, 0).numpy()
            out.append((thing, Image.fromarray(pixels).resize((192, 192), Image.Resampling.BICUBIC)))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--textures", type=Path, default=Path("checkpoints/textures.state"))
    options = parser.parse_args()
    icons, features = [p for p in read(options.data) if p.source in ICONS], Features()
    judge = Judge(features, [p for p in icons if p.source != HELD])
    pictures = real([p for p in icons if p.source == HELD])
    print(f"real pictures, a set it does not know: {judge.share(pictures):.0%} of {len(pictures)}")
    if options.textures.exists():
        made = textures(options.textures)
        print(f"textures of guidance alone: {judge.share(made):.0%} of {len(made)}")
    for round_ in range(1, 100):
        if not (FOLDER / f"round-{round_}.jpg").exists():
            break
        pictures = cells(round_)
        print(f"round {round_}: {judge.share(pictures):.0%} of {len(pictures)}")


if __name__ == "__main__":
    main()
