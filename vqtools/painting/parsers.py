"""Parsers of text fields in PaintSettings: augmentation codes, CLIPs, palettes, boxes and regions.

Each raises UserError with the value and the expected form. Knows text; imports nothing heavy.
"""

from __future__ import annotations

import re

from vqtools.core.errors import UserError
from vqtools.painting.prompts import parse_prompts

AUGMENTATIONS = "Hf Af Pe Sh Ji Gn"  # the default
ALL_AUGMENTATIONS = f"{AUGMENTATIONS} Ro Er Et Ts Cr Re"

Box = tuple[float, float, float, float]
"""Left, top, right, bottom as fractions of the picture's width and height, 0 to 1."""

_MAX_COLOURS = 64


def parse_augment(augment: str) -> frozenset[str]:
    """The codes named in ``augment``, separated by spaces or commas, in any case."""
    known = {code.lower(): code for code in ALL_AUGMENTATIONS.split()}
    named = augment.replace(",", " ").split()
    if unknown := [code for code in named if code.lower() not in known]:
        raise UserError(f"augment {unknown[0]!r}: expected codes of {ALL_AUGMENTATIONS}, or nothing for plain cutouts")
    return frozenset(known[code.lower()] for code in named)


def parse_clips(text: str) -> dict[str, float]:
    """``starter | ViT-B-32/openai:0.5`` to weights by name, in this order."""
    try:
        clips = parse_prompts(text)
    except UserError:
        raise UserError(f"clip {text!r}: write a name, or several as name:2 | other:0.5") from None
    if any(clip.weight <= 0 for clip in clips) or len({clip.text for clip in clips}) < len(clips):
        raise UserError(f"clip {text!r}: write each CLIP once, with a weight above 0")
    return {clip.text: clip.weight for clip in clips}


def parse_palette(text: str) -> list[tuple[int, int, int]]:
    """``#d62828 #fcbf49`` to colours (red, green, blue) in [0, 255]; at most 64."""
    words = text.replace(",", " ").split()
    if len(words) > _MAX_COLOURS:
        raise UserError(f"a palette of {len(words)} colours: at most {_MAX_COLOURS} are allowed")
    for word in words:
        if not re.fullmatch("#[0-9a-fA-F]{6}", word):
            raise UserError(f"{word!r} is not a colour; write it as #d62828")
    return [(int(word[1:3], 16), int(word[3:5], 16), int(word[5:7], 16)) for word in words]


def parse_area(text: str) -> Box | str:
    """``0,0,0.5,1`` to a box; anything that is not four numbers is the name of a file."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        return text.strip()
    if len(numbers) != 4:
        return text.strip()
    left, top, right, bottom = numbers
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise UserError(
            f"the box {text.strip()} is empty or lies outside the picture; write left,top,right,bottom from 0 to 1"
        )
    return left, top, right, bottom


def parse_regions(text: str) -> dict[int, Box | str]:
    """``1=0,0,0.5,1 | 2=mask.png`` to areas by the prompt's index, which counts from 1 in the text and from 0 here."""
    regions: dict[int, Box | str] = {}
    for part in text.split("|") if text.strip() else []:
        number, equals, area = part.partition("=")
        if not (equals and area.strip() and re.fullmatch("[1-9][0-9]{0,2}", number.strip())):
            raise UserError(f"region {part.strip()!r}: write a prompt's number and an area, as in 1=0,0,0.5,1")
        if int(number) - 1 in regions:
            raise UserError(f"prompt {int(number)} has two regions; write one box or one file for it")
        regions[int(number) - 1] = parse_area(area)
    return regions
