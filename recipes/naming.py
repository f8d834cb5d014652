"""Blind naming: what do eyes see that have not read the prompts?

    python -m recipes.naming sheet --round 1      # paints docs/naming/prompts.json at defaults, shuffled, no words
    python -m recipes.naming count --round 1      # holds round-1-names.json against the answers that count

The names are given by people (or other eyes) who get the sheet alone: {"1": "an apple, red, white ground", …}.
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


def prompts() -> list[dict[str, Any]]:
    return json.loads((FOLDER / "prompts.json").read_text())  # type: ignore[no-any-return]


def order(round_: int) -> list[int]:
    """Which prompt stands at each place of a round's sheet."""
    places = list(range(len(prompts())))
    random.Random(f"sheet {round_}").shuffle(places)
    return places


def seed(round_: int, prompt: int) -> int:
    return 1000 * round_ + prompt


def sheet(round_: int, fields: dict[str, Any], out: Path, first: Path | None = None) -> None:
    """One picture a prompt at ``seed``, numbered from 1, eight in a row; ``first``: the first sixteen prompts' too."""
    from vqtools.studio import paint

    asked, began, side = prompts(), time.monotonic(), 192
    page = Image.new("RGB", (8 * (side + 8), 8 * (side + 26)), "white")
    draw = ImageDraw.Draw(page)
    strip = Image.new("RGB", (8 * side, 2 * side), "white")
    for place, index in enumerate(order(round_)):
        picture = paint(asked[index]["prompt"], seed=seed(round_, index), **fields)
        x, y = place % 8 * (side + 8) + 4, place // 8 * (side + 26) + 22
        page.paste(picture.resize((side, side)), (x, y))
        if index < 16:
            strip.paste(picture, (index % 8 * side, index // 8 * side))
        draw.text((x, y - 18), str(place + 1), fill="black", font_size=16)
    page.save(out, quality=88)
    if first:
        strip.save(first, quality=90)
    print(f"{out}: {len(asked)} pictures, {(time.monotonic() - began) / len(asked):.1f} s each")


def said(name: str, answers: list[str]) -> bool:
    """Whether one of the answers stands in a name as words, its plural too."""
    return any(re.search(rf"\b{re.escape(answer)}(e?s)?\b", name.lower()) for answer in answers)


def judge(name: str, entry: dict[str, Any]) -> bool:
    """The thing counts; in a combination its colour and that of the ground must be named too."""
    parts = [p.strip() for p in name.split(",")] + ["", ""]
    right = said(parts[0], entry["answers"])
    if "colour" in entry:
        right = right and said(parts[1], entry["colour"]) and said(parts[2], entry["ground"])
    return right


def count(round_: int) -> str:
    """A table in markdown of what was seen, and the count."""
    asked = prompts()
    names = json.loads((FOLDER / f"round-{round_}-names.json").read_text())
    rows, right, combined = [], 0, 0
    for place, index in enumerate(order(round_)):
        entry, name = asked[index], str(names.get(str(place + 1), ""))
        good = judge(name, entry)
        right += good
        combined += good and "colour" in entry
        rows.append(f"| {place + 1} | {entry['prompt']} | {name} | {'yes' if good else ''} |")
    of = sum("colour" in entry for entry in asked)
    head = f"Round {round_}: **{right} of {len(asked)}** named, {combined} of {of} combinations.\n"
    title = ["| place | prompt | seen: thing, colour, ground | counts |", "| --- | --- | --- | --- |"]
    return "\n".join([head, *title, *rows]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["sheet", "count"])
    parser.add_argument("--round", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="other than the default")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--first", type=Path, help="write the first sixteen prompts' pictures here, in order")
    options = parser.parse_args()
    if options.what == "sheet":
        fields = dict(pair.split("=", 1) for pair in options.set)
        sheet(options.round, fields, options.out or FOLDER / f"round-{options.round}.jpg", options.first)
    else:
        table = count(options.round)
        (FOLDER / f"round-{options.round}.md").write_text(table)
        print(table.split("\n")[0])


if __name__ == "__main__":
    main()
