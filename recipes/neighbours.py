"""Does it compose, or copy? Each sample beside the training pictures that are nearest to it.

    python -m recipes.neighbours --data FOLDER --round 3     # docs/naming/neighbours-3.jpg, credits beside it

Near is meant as an untouched ImageNet network sees it: the cosine of EfficientNet-Lite2's features, the training
picture mirrored and on the ground of the sample too.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw

from recipes.judge import Features
from recipes.naming import FOLDER, cell, order
from recipes.naming import prompts as asked
from recipes.pictures import ICONS, Picture, composite, read

TILE = 96


def sheet(data: Path, round_: int, out: Path, count: int) -> None:
    features, page = Features(), Image.open(FOLDER / f"round-{round_}.jpg")
    places = sorted(range(len(order(round_))), key=lambda place: order(round_)[place])[:: len(asked()) // count][:count]
    samples = [cell(page, place) for place in places]
    icons: list[Picture] = [p for p in read(data) if p.source in ICONS]
    flat = [composite(p.pixels, (255, 255, 255)) for p in icons]
    bank = features(flat)
    near = (features(samples) @ bank.T + features([s.transpose(0) for s in samples]) @ bank.T).topk(3).indices
    canvas = Image.new("RGB", (4 * (TILE + 8), len(samples) * (TILE + 8)), "white")
    draw, credits = ImageDraw.Draw(canvas), []
    for row, (place, sample, found) in enumerate(zip(places, samples, near.tolist(), strict=True)):
        prompt = asked()[order(round_)[place]]["prompt"]
        for column, tile in enumerate([sample, *(flat[i] for i in found)]):
            canvas.paste(tile.resize((TILE, TILE)), (column * (TILE + 8) + 4, row * (TILE + 8) + 4))
        draw.line((TILE + 8, row * (TILE + 8), TILE + 8, (row + 1) * (TILE + 8)), fill="grey")
        names = "; ".join(f"{icons[i].name} ({icons[i].source}, {icons[i].credit})" for i in found)
        credits.append(f"{row + 1}. {prompt}: {names}")
    canvas.save(out, quality=88)
    out.with_suffix(".txt").write_text("\n".join(credits) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--round", type=int, required=True)
    parser.add_argument("--count", type=int, default=16, help="samples on the sheet")
    options = parser.parse_args()
    sheet(options.data, options.round, FOLDER / f"neighbours-{options.round}.jpg", options.count)


if __name__ == "__main__":
    main()
