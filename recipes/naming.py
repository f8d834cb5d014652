"""Blind naming: what do eyes see that have not read the prompts?

    python -m recipes.naming sheet --round 1      # paints docs/naming/prompts.json at defaults, shuffled, no words
    python -m recipes.naming count --round 1      # holds round-1-names.json against the answers that count
    python -m recipes.naming pairs --round 3      # before and after guidance side by side, shuffled, with prompts
    python -m recipes.naming prefer --round 3     # counts pairs-3-said.json: how often the after was preferred

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
    from vqtools.pipelines.paint import paint

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


def count(round_: int, end: str = "") -> str:
    """A table in markdown of what was seen on a round's sheet, and the count; end: "-half" for that sheet."""
    asked = prompts()
    names = json.loads((FOLDER / f"round-{round_}{end}-names.json").read_text())
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


def cell(page: Image.Image, place: int) -> Image.Image:
    """The picture at a place, counted from 0, of a sheet."""
    x, y = place % 8 * 200 + 4, place // 8 * 218 + 22
    return page.crop((x, y, x + 192, y + 192))


def sides(round_: int) -> list[bool]:
    """For each place of a round, whether the after stands on the left."""
    rng = random.Random(f"pairs {round_}")
    return [rng.random() < 0.5 for _ in prompts()]


def pairs(round_: int) -> Image.Image:
    """Four pairs in a row with their prompts: round-N-unguided.jpg is the same seeds with one iteration."""
    after, before = (Image.open(FOLDER / f"round-{round_}{end}.jpg") for end in ("", "-unguided"))
    page = Image.new("RGB", (4 * 404, 16 * 222), "white")
    draw = ImageDraw.Draw(page)
    for place, (index, left) in enumerate(zip(order(round_), sides(round_), strict=True)):
        x, y = place % 4 * 404 + 4, place // 4 * 222 + 24
        for step, sheet_ in enumerate((after, before) if left else (before, after)):
            page.paste(cell(sheet_, place), (x + 198 * step, y))
        draw.text((x, y - 18), f"{place + 1} {prompts()[index]['prompt']}", fill="black", font_size=14)
    return page


def preferred(round_: int) -> str:
    said_ = json.loads((FOLDER / f"pairs-{round_}-said.json").read_text())
    votes = [said_[str(place + 1)] for place in range(len(prompts()))]
    after = sum(vote == ("left" if left else "right") for vote, left in zip(votes, sides(round_), strict=True))
    same = sum(vote not in ("left", "right") for vote in votes)
    return f"Round {round_}: the after preferred {after} times of {len(votes)}, undecided {same}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["sheet", "count", "pairs", "prefer"])
    parser.add_argument("--round", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="other than the default")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--of", default="", help="count that round's other sheet: unguided, half")
    parser.add_argument("--first", type=Path, help="write the first sixteen prompts' pictures here, in order")
    options = parser.parse_args()
    if options.what == "sheet":
        fields = dict(pair.split("=", 1) for pair in options.set)
        sheet(options.round, fields, options.out or FOLDER / f"round-{options.round}.jpg", options.first)
    elif options.what == "pairs":
        pairs(options.round).save(options.out or FOLDER / f"pairs-{options.round}.jpg", quality=85)
    elif options.what == "prefer":
        print(preferred(options.round))
    else:
        end = f"-{options.of}" if options.of else ""
        table = count(options.round, end)
        (FOLDER / f"round-{options.round}{end}.md").write_text(table)
        print(table.split("\n")[0])


if __name__ == "__main__":
    main()
