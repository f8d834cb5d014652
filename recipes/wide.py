"""Evaluate starter-large: whether its wide pictures are recognised, and whether a completed picture shows a seam.

    python -m recipes.wide sheet --round 1                   # sample docs/naming/wide-prompts.json, shuffled
    python -m recipes.wide count --round 1                   # compare wide-1-names.json with the accepted answers
    python -m recipes.wide seams --data FOLDER               # complete held-out pictures on every side

The names come from people (or models) who see the sheet alone, with "seam" if they see one: {"1": "a brick wall", …}.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from recipes.large import scenes
from recipes.naming import FOLDER, contains_answer, prompt_seed
from recipes.pictures import read
from vqtools.core.job import finish
from vqtools.media.image import load_picture, resize_and_crop, to_tensor
from vqtools.models.tiled_decoding import decode_any_size
from vqtools.models.vqgan import VQGAN
from vqtools.pipelines import sample
from vqtools.pipelines.sample import SampleJob, create_sample_job
from vqtools.sampling.settings import SampleSettings

SIZE, GRIDS = (288, 96), 8
KEPT = {"left": (192, 96), "right": (192, 96), "upper": (96, 192), "lower": (96, 192)}


def prompts() -> list[dict[str, Any]]:
    return json.loads((FOLDER / "wide-prompts.json").read_text())  # type: ignore[no-any-return]


def order(round_: int) -> list[int]:
    """The index of the prompt at each place of a round's sheet."""
    places = list(range(len(prompts())))
    random.Random(f"wide {round_}").shuffle(places)
    return places


def sheet(round_: int) -> Image.Image:
    """One picture per prompt, selected by the CLIP from ``GRIDS`` candidates, numbered from 1 and enlarged twice."""
    page = Image.new("RGB", (2 * (2 * SIZE[0] + 8), 4 * (2 * SIZE[1] + 26)), "white")
    draw = ImageDraw.Draw(page)
    for place, index in enumerate(order(round_)):
        fields = {"transformer": "starter-large", "size": SIZE, "grids": GRIDS, "seed": prompt_seed(round_, index)}
        picture = sample.sample(prompts()[index]["prompt"], **fields)
        x, y = place % 2 * (2 * SIZE[0] + 8) + 4, place // 2 * (2 * SIZE[1] + 26) + 22
        page.paste(picture.resize((2 * SIZE[0], 2 * SIZE[1]), Image.Resampling.LANCZOS), (x, y))
        draw.text((x, y - 18), str(place + 1), fill="black", font_size=16)
    return page


def count(round_: int) -> str:
    """A Markdown table of the names given, with the number of recognised pictures and of seams."""
    names = json.loads((FOLDER / f"wide-{round_}-names.json").read_text())
    rows, right, seams = ["| place | prompt | seen | counts |", "| --- | --- | --- | --- |"], 0, 0
    for place, index in enumerate(order(round_)):
        entry, name = prompts()[index], str(names.get(str(place + 1), ""))
        good = contains_answer(name, entry["answers"])
        right, seams = right + good, seams + ("seam" in name)
        rows.append(f"| {place + 1} | {entry['prompt']} | {name} | {'yes' if good else ''} |")
    return f"Round {round_}: **{right} of {len(prompts())}** named, a seam in {seams}.\n\n" + "\n".join(rows) + "\n"


def completed(path: Path, keep: str) -> tuple[Tensor, SampleJob]:
    """The codes (1, h, w) of a picture of which half is resampled, and the job."""
    fields = {"transformer": "starter-large", "size": KEPT[keep], "complete": str(path), "keep": keep, "seed": 1}
    job = finish(create_sample_job(SampleSettings.parse(fields)))
    return job.codes, job


def seams(data: Path, count_: int) -> None:
    """Print, for each kept half, the mean step across its border relative to that at other borders between codes.

    The same is printed for the original pictures.
    """
    held = scenes(read(data, "val-*.tar.gz"))
    random.Random("seams").shuffle(held)
    steps: dict[str, list[tuple[float, ...]]] = {keep: [] for keep in KEPT}
    with tempfile.TemporaryDirectory() as folder:
        for picture in held[:count_]:
            path = Path(folder) / "given.png"
            Image.fromarray(picture.pixels[..., :3]).save(path)
            for keep, size in KEPT.items():
                sampled, job = completed(path, keep)
                whole = job.vqgan.encode(to_tensor(resize_and_crop(load_picture(path), size)))
                horizontal = keep in ("upper", "lower")
                after, before = (
                    seam_contrast(codes, job.vqgan, 12, horizontal=horizontal) for codes in (sampled, whole)
                )
                steps[keep].append((*after, *before))
    for keep, found in steps.items():
        across, others, before, elsewhere = map(sum, zip(*found, strict=True))
        print(f"{keep} kept: {across / others:.2f} times other borders; as they were {before / elsewhere:.2f}")


def seam_contrast(codes: Tensor, vqgan: VQGAN, column: int, *, horizontal: bool = False) -> tuple[float, float]:
    """Mean absolute difference of neighbouring pixels across one border between codes, and across all others.

    codes: (b, h, w). column: the first column to the right of a vertical border, or with ``horizontal`` the first row
    below a horizontal one. Both results are in [0, 2], of decoded pictures; where no seam is visible they are about
    equal.
    """
    with torch.no_grad():
        images = decode_any_size(vqgan, codes).float().clamp(-1, 1)
    images = images.mT if horizontal else images
    f, w = vqgan.f, images.shape[-1] // vqgan.f
    step = (images[..., 1:] - images[..., :-1]).abs().mean((0, 1, 2))
    borders = step[f - 1 :: f][: w - 1]
    others = torch.cat([borders[: column - 1], borders[column:]])
    return float(borders[column - 1]), float(others.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["sheet", "count", "seams"])
    parser.add_argument("--round", type=int, default=1)
    parser.add_argument("--data", type=Path, help="folder of shards val-*.tar.gz")
    parser.add_argument("--pictures", type=int, default=24)
    options = parser.parse_args()
    if options.what == "sheet":
        sheet(options.round).save(FOLDER / f"wide-{options.round}.jpg", quality=88)
    elif options.what == "count":
        table = count(options.round)
        (FOLDER / f"wide-{options.round}.md").write_text(table)
        print(table.split("\n")[0])
    else:
        if options.data is None:
            parser.error("seams needs --data")
        seams(options.data, options.pictures)


if __name__ == "__main__":
    main()
