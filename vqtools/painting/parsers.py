"""TODO: what this module is.

Split from vqtools.painting.settings.
"""

from __future__ import annotations

import re

from vqtools.core.errors import UserError
from vqtools.painting.prompts import parse_prompts

AUGMENTATIONS = "Hf Af Pe Sh Ji Gn"  # those that work together


ALL_AUGMENTATIONS = f"{AUGMENTATIONS} Ro Er Et Ts Cr Re"


def parse_augment(augment: str) -> frozenset[str]:
    """The codes named in ``augment``, separated by spaces or commas, in any case."""
    known = {code.lower(): code for code in ALL_AUGMENTATIONS.split()}
    named = augment.replace(",", " ").split()
    if unknown := [code for code in named if code.lower() not in known]:
        raise UserError(f"augment {unknown[0]!r}: the codes are {ALL_AUGMENTATIONS}, or none for plain cutouts")
    return frozenset(known[code.lower()] for code in named)


def parse_clips(text: str) -> dict[str, float]:
    """``starter | ViT-B-32/openai:0.5`` -> weights by name, in this order."""
    try:
        found = parse_prompts(text)
    except UserError:
        raise UserError(f"clip {text!r}: write a name, or several as one:2 | other:0.5") from None
    if any(one.weight <= 0 for one in found) or len({one.text for one in found}) < len(found):
        raise UserError(f"clip {text!r}: each CLIP once, with a weight of more than 0")
    return {one.text: one.weight for one in found}


def parse_palette(text: str) -> list[tuple[int, int, int]]:
    """``#d62828 #fcbf49`` -> colours of red, green and blue, 0 to 255; at most 64."""
    words = text.replace(",", " ").split()
    if len(words) > 64:
        raise UserError(f"a palette of {len(words)} colours: at most 64")
    for word in words:
        if not re.fullmatch("#[0-9a-fA-F]{6}", word):
            raise UserError(f"{word!r} is no colour; write it as #d62828")
    return [(int(word[1:3], 16), int(word[3:5], 16), int(word[5:7], 16)) for word in words]


Box = tuple[float, float, float, float]
"""Left, top, right, bottom as shares of the picture's sides, 0 to 1."""


def parse_area(text: str) -> Box | str:
    """``0,0,0.5,1`` -> a box; anything that is not four numbers is a file's name."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        return text.strip()
    if len(numbers) != 4:
        return text.strip()
    left, top, right, bottom = numbers
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise UserError(
            f"the box {text.strip()} lies outside the picture or is empty; write left,top,right,bottom from 0 to 1"
        )
    return left, top, right, bottom


def parse_regions(text: str) -> dict[int, Box | str]:
    """``1=0,0,0.5,1 | 2=mask.png`` -> an area by the prompt's index, counted from 0 here and from 1 in the text."""
    found: dict[int, Box | str] = {}
    for part in text.split("|") if text.strip() else []:
        number, equals, area = part.partition("=")
        if not (equals and area.strip() and re.fullmatch("[1-9][0-9]{0,2}", number.strip())):
            raise UserError(f"region {part.strip()!r}: write a prompt's number and an area, as in 1=0,0,0.5,1")
        if int(number) - 1 in found:
            raise UserError(f"prompt {int(number)} has two regions; one box or file each")
        found[int(number) - 1] = parse_area(area)
    return found
