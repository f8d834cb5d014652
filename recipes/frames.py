"""Are our steadier frames named as well as the published loop's? Blind naming of the last frames of short zooms.

    python -m recipes.frames sheet --round 1      # docs/naming/frames-1-a.jpg and -b.jpg: one loop's frame of each
    python -m recipes.frames count --round 1      # holds frames-1-a-names.json and -b-names.json against the answers

Every prompt stands once on each sheet, shuffled: whose frame, a coin says. So eyes see no picture twice.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from recipes.naming import FOLDER, is_recognized, load_prompts, prompt_seed

# how zooming animations have been made: moved in pixels, the border wrapped, Adam rebuilt for each frame, no average
PUBLISHED: dict[str, Any] = {
    "carry": False, "hold": 0.0, "antiblur": "0", "clarity": 0.0, "ema": 0.0, "frame_learning_rate": 0.1,
    "border": "wrap",
}  # fmt: skip
STORED = {"motion": "none", "zoom": "1.02", "angle": "1", "translation_x": "0.5"}
WISH = {"size": (128, 128), "frames": 13, "iterations": 60, "grids": 16, **STORED}
PLAIN = range(0, 48, 2)  # the prompts that are asked, of those that are no combinations
SHEETS, ACROSS, SIDE = "ab", 6, 192


def plan(round_: int) -> list[list[tuple[int, bool]]]:
    """For each sheet the prompts in the order of its places, and whether the frame is ours."""
    rng = random.Random(f"frames {round_}")
    first = [(index, rng.random() < 0.5) for index in PLAIN]
    sheets = [first, [(index, not ours) for index, ours in first]]
    for places in sheets:
        rng.shuffle(places)
    return sheets


def last_frame(prompt: str, seed_: int, ours: bool) -> Image.Image:
    from vqtools.animation.project import Project
    from vqtools.animation.settings import AnimateSettings
    from vqtools.core.job import finish
    from vqtools.media.image import load_picture
    from vqtools.pipelines.animate import create_animation

    settings = AnimateSettings.parse({"prompt": prompt, "seed": seed_, **WISH, **({} if ours else PUBLISHED)})
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder) / "zoom", {"settings": settings.model_dump(mode="json")})
        project.save()
        finish(create_animation(settings, project))
        return load_picture(max(project.frames.glob("*.png")))


def sheet(round_: int, places: list[tuple[int, bool]], out: Path) -> None:
    page = Image.new("RGB", (ACROSS * (SIDE + 8), -(-len(places) // ACROSS) * (SIDE + 26)), "white")
    draw = ImageDraw.Draw(page)
    for place, (index, ours) in enumerate(places):
        frame = last_frame(load_prompts()[index]["prompt"], prompt_seed(round_, index), ours)
        x, y = place % ACROSS * (SIDE + 8) + 4, place // ACROSS * (SIDE + 26) + 22
        page.paste(frame.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x, y))
        draw.text((x, y - 18), str(place + 1), fill="black", font_size=16)
    page.save(out, quality=88)


def count(round_: int) -> str:
    """A table in markdown of what was seen in whose frame, and both counts."""
    seen: dict[tuple[int, bool], str] = {}
    for name, places in zip(SHEETS, plan(round_), strict=True):
        names = json.loads((FOLDER / f"frames-{round_}-{name}-names.json").read_text())
        seen |= {key: str(names.get(str(place + 1), "")) for place, key in enumerate(places)}
    right = {key: is_recognized(name, load_prompts()[key[0]]) for key, name in seen.items()}
    published, ours = (sum(right[index, side] for index in PLAIN) for side in (False, True))
    rows = ["| prompt | published loop | counts | ours | counts |", "| --- | --- | --- | --- | --- |"]
    for index in PLAIN:
        cells = (f"{seen[index, side]} | {'yes' if right[index, side] else ''}" for side in (False, True))
        rows.append(f"| {load_prompts()[index]['prompt']} | {' | '.join(cells)} |")
    head = f"Round {round_}, the last of {WISH['frames']} frames: published loop **{published}**, ours **{ours}**"
    return f"{head} of {len(PLAIN)}.\n\n" + "\n".join(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["sheet", "count"])
    parser.add_argument("--round", type=int, default=1)
    options = parser.parse_args()
    if options.what == "sheet":
        for name, places in zip(SHEETS, plan(options.round), strict=True):
            sheet(options.round, places, FOLDER / f"frames-{options.round}-{name}.jpg")
    else:
        table = count(options.round)
        (FOLDER / f"frames-{options.round}.md").write_text(table)
        print(table.split("\n")[0])


if __name__ == "__main__":
    main()
