"""Blind tests: what do viewers who have not read the prompts see in the paintings.

    python -m recipes.naming sheet --round 1      # paint docs/naming/prompts.json with default settings, shuffled
    python -m recipes.naming count --round 1      # compare round-1-names.json with the accepted answers
    python -m recipes.naming pairs --round 3      # before and after guidance side by side, shuffled, with prompts
    python -m recipes.naming prefer --round 3     # count in pairs-3-said.json how often "after" was preferred

The names come from people (or models) who see the sheet alone: {"1": "an apple, red, white ground", …}.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

FOLDER = Path("docs/naming")
SIDE = 192  # pixels of each picture on a sheet


def load_prompts() -> list[dict[str, Any]]:
    """Return the prompts of the test, each with its accepted answers."""
    return json.loads((FOLDER / "prompts.json").read_text())  # type: ignore[no-any-return]


def sheet_order(round_: int) -> list[int]:
    """Return the index of the prompt at each place of a round's sheet."""
    places = list(range(len(load_prompts())))
    random.Random(f"sheet {round_}").shuffle(places)
    return places


def prompt_seed(round_: int, prompt: int) -> int:
    """Return the seed with which a prompt is painted in a round."""
    return 1000 * round_ + prompt


def paint_sheet(round_: int, fields: dict[str, Any], out: Path, first: Path | None = None) -> None:
    """Paint one picture per prompt and write them to ``out``, numbered from 1, eight in a row.

    first: also write the pictures of the first sixteen prompts, in their order, to this file.
    """
    from vqtools.pipelines.paint import paint

    prompts, started = load_prompts(), time.monotonic()
    page = Image.new("RGB", (8 * (SIDE + 8), 8 * (SIDE + 26)), "white")
    draw = ImageDraw.Draw(page)
    strip = Image.new("RGB", (8 * SIDE, 2 * SIDE), "white")
    for place, index in enumerate(sheet_order(round_)):
        picture = paint(prompts[index]["prompt"], seed=prompt_seed(round_, index), **fields)
        x, y = place % 8 * (SIDE + 8) + 4, place // 8 * (SIDE + 26) + 22
        page.paste(picture.resize((SIDE, SIDE)), (x, y))
        if index < 16:
            strip.paste(picture, (index % 8 * SIDE, index // 8 * SIDE))
        draw.text((x, y - 18), str(place + 1), fill="black", font_size=16)
    page.save(out, quality=88)
    if first:
        strip.save(first, quality=90)
    print(f"{out}: {len(prompts)} pictures, {(time.monotonic() - started) / len(prompts):.1f} s each")


def contains_answer(name: str, answers: list[str]) -> bool:
    """Return whether a name contains one of the answers as whole words, in singular or plural."""
    return any(re.search(rf"\b{re.escape(answer)}(e?s)?\b", name.lower()) for answer in answers)


def is_recognized(name: str, prompt: dict[str, Any]) -> bool:
    """Return whether a name contains the object and, for a combination, also its colour and that of the background."""
    parts = [part.strip() for part in name.split(",")] + ["", ""]
    recognized = contains_answer(parts[0], prompt["answers"])
    if "colour" in prompt:
        recognized = recognized and contains_answer(parts[1], prompt["colour"])
        recognized = recognized and contains_answer(parts[2], prompt["ground"])
    return recognized


def count_recognized(round_: int, sheet: str = "") -> str:
    """Return a Markdown table of the names given to a round's sheet, and the count.

    sheet: "-half" or "-unguided" for the round's other sheets.
    """
    prompts = load_prompts()
    names = json.loads((FOLDER / f"round-{round_}{sheet}-names.json").read_text())
    rows, total, combinations = [], 0, 0
    for place, index in enumerate(sheet_order(round_)):
        prompt, name = prompts[index], str(names.get(str(place + 1), ""))
        recognized = is_recognized(name, prompt)
        total += recognized
        combinations += recognized and "colour" in prompt
        rows.append(f"| {place + 1} | {prompt['prompt']} | {name} | {'yes' if recognized else ''} |")
    all_combinations = sum("colour" in prompt for prompt in prompts)
    head = f"Round {round_}: **{total} of {len(prompts)}** named, {combinations} of {all_combinations} combinations.\n"
    title = ["| place | prompt | seen: thing, colour, ground | counts |", "| --- | --- | --- | --- |"]
    return "\n".join([head, *title, *rows]) + "\n"


def crop_picture(page: Image.Image, place: int) -> Image.Image:
    """Return the picture at a place, counted from 0, of a sheet."""
    x, y = place % 8 * (SIDE + 8) + 4, place // 8 * (SIDE + 26) + 22
    return page.crop((x, y, x + SIDE, y + SIDE))


def after_is_left(round_: int) -> list[bool]:
    """Return for each place of a round's pairs whether the picture after guidance is on the left."""
    rng = random.Random(f"pairs {round_}")
    return [rng.random() < 0.5 for _ in load_prompts()]


def pairs_sheet(round_: int) -> Image.Image:
    """Return four pairs in a row with their prompts; round-N-unguided.jpg has the same seeds with one iteration."""
    after, before = (Image.open(FOLDER / f"round-{round_}{name}.jpg") for name in ("", "-unguided"))
    page = Image.new("RGB", (4 * 404, 16 * 222), "white")
    draw = ImageDraw.Draw(page)
    for place, (index, left) in enumerate(zip(sheet_order(round_), after_is_left(round_), strict=True)):
        x, y = place % 4 * 404 + 4, place // 4 * 222 + 24
        for column, sheet in enumerate((after, before) if left else (before, after)):
            page.paste(crop_picture(sheet, place), (x + 198 * column, y))
        draw.text((x, y - 18), f"{place + 1} {load_prompts()[index]['prompt']}", fill="black", font_size=14)
    return page


def count_preferences(round_: int) -> str:
    """Return how often the picture after guidance was preferred in a round, as a sentence."""
    answers = json.loads((FOLDER / f"pairs-{round_}-said.json").read_text())
    votes = [answers[str(place + 1)] for place in range(len(load_prompts()))]
    after = sum(vote == ("left" if left else "right") for vote, left in zip(votes, after_is_left(round_), strict=True))
    undecided = sum(vote not in ("left", "right") for vote in votes)
    return f"Round {round_}: the picture after guidance preferred {after} times of {len(votes)}, undecided {undecided}"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["sheet", "count", "pairs", "prefer"])
    parser.add_argument("--round", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a setting of the paintings")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--of", default="", help="count another sheet of the round: unguided or half")
    parser.add_argument("--first", type=Path, help="also write the pictures of the first sixteen prompts, in order")
    options = parser.parse_args()
    if options.what == "sheet":
        fields = dict(pair.split("=", 1) for pair in options.set)
        paint_sheet(options.round, fields, options.out or FOLDER / f"round-{options.round}.jpg", options.first)
    elif options.what == "pairs":
        pairs_sheet(options.round).save(options.out or FOLDER / f"pairs-{options.round}.jpg", quality=85)
    elif options.what == "prefer":
        print(count_preferences(options.round))
    else:
        sheet = f"-{options.of}" if options.of else ""
        table = count_recognized(options.round, sheet)
        (FOLDER / f"round-{options.round}{sheet}.md").write_text(table)
        print(table.split("\n")[0])


if __name__ == "__main__":
    main()
