"""Does it compose, or copy? Each sample beside the training pictures that are nearest to it.

    python -m recipes.neighbours --data FOLDER --round 3     # docs/naming/neighbours-3.jpg, credits beside it

Near is meant as an untouched ImageNet network sees it: the cosine of EfficientNet-Lite2's features, the sample mirrored
too. Of each sample stand the three nearest of all icons, then the two nearest of those whose licence asks for nothing
but their credit; of the others the sheet shows only the name.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw
from torch import Tensor

from recipes.judge import Features
from recipes.naming import FOLDER, crop_picture, load_prompts, sheet_order
from recipes.pictures import ICONS, Picture, composite, read

TILE = 96
SHOWN = {"MIT", "CC0-1.0", "PD", "PD-USGov"}
NEAREST, NEAREST_SHOWN = 3, 2


def tile(picture: Picture) -> Image.Image:
    """A thumbnail, or the name of what may not be shown here."""
    if picture.licence in SHOWN:
        return composite(picture.pixels, (255, 255, 255)).resize((TILE, TILE), Image.Resampling.LANCZOS)
    card = Image.new("RGB", (TILE, TILE), (235, 235, 235))
    words = "\n".join([*picture.name.split(" ", 2), "", picture.source, picture.licence])
    ImageDraw.Draw(card).multiline_text((4, 4), words, fill="black", font_size=11)
    return card


def found(near: Tensor, icons: Sequence[Picture]) -> list[int]:
    """Places of the nearest icons, then of the nearest that may be shown and do not stand there yet."""
    ranked = near.argsort(descending=True).tolist()
    first = ranked[:NEAREST]
    return first + [i for i in ranked[NEAREST:] if icons[i].licence in SHOWN][:NEAREST_SHOWN]


def sheet(data: Path, round_: int, out: Path, count: int) -> None:
    features, page = Features(), Image.open(FOLDER / f"round-{round_}.jpg")
    places = sorted(range(len(sheet_order(round_))), key=lambda place: sheet_order(round_)[place])[
        :: len(load_prompts()) // count
    ][:count]
    samples = [crop_picture(page, place) for place in places]
    icons: list[Picture] = [p for p in read(data) if p.source in ICONS]
    bank = features([composite(p.pixels, (255, 255, 255)) for p in icons])
    cosines = [features(views) @ bank.T for views in (samples, [s.transpose(0) for s in samples])]
    near = cosines[0].maximum(cosines[1])
    step = TILE + 8
    canvas = Image.new("RGB", ((NEAREST + NEAREST_SHOWN + 1) * step + 16, len(samples) * step), "white")
    draw, credits = ImageDraw.Draw(canvas), []
    for row, (place, sample) in enumerate(zip(places, samples, strict=True)):
        neighbours = found(near[row], icons)
        for column, one in enumerate([sample.resize((TILE, TILE)), *(tile(icons[i]) for i in neighbours)]):
            gap = 8 * (column > 0) + 8 * (column > NEAREST)
            canvas.paste(one, (column * step + gap, row * step + 4))
        names = "; ".join(
            f"{icons[i].name} ({near[row, i]:.2f}, {icons[i].source}, {icons[i].credit}, {icons[i].licence})"
            for i in neighbours
        )
        credits.append(f"{row + 1}. {load_prompts()[sheet_order(round_)[place]]['prompt']}: {names}")
    for x in (step, (NEAREST + 1) * step + 8):
        draw.line((x, 0, x, canvas.height), fill="grey")
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
