"""What to paint: ``a castle in the clouds:1.5 | blur:-0.3:-0.8`` becomes prompts with weights and stops.

Knows text and numbers; nothing about networks, and opens no file: of a picture prompt it knows the name alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vqtools.core.errors import UserError, shorten

_NUMBER = (
    r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[nN][aA][nN]|[iI][nN][fF](?:[iI][nN][iI][tT][yY])?)"
)
_IS_NUMBER = re.compile(rf"\s*{_NUMBER}\s*")
_READ_AS_NUMBER = re.compile(rf":(?=\s*{_NUMBER}\s*(?::|\Z))")  # a colon at which parse would split


@dataclass(frozen=True)
class Prompt:
    """One text, or one picture as ``picture:FILE``, with its pull.

    weight: how strongly the picture is drawn towards the text; negative pushes it away.
    stop: the weight's sign times the distance below which the pull ends; -inf for never.
    """

    text: str
    weight: float = 1.0
    stop: float = -math.inf

    @property
    def picture(self) -> str | None:
        """The file that a picture prompt, ``picture:castle.png``, names; None for words."""
        kind, colon, path = self.text.partition(":")
        return path.strip() if colon and kind.strip().lower() == "picture" else None

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise UserError("an empty prompt: write what the picture should show, as in 'a red apple'")
        if self.picture == "":
            raise UserError("a picture prompt without a picture: name its file, as in 'picture:castle.png'")
        if not math.isfinite(self.weight):
            raise UserError(
                f"weight {self.weight} of the prompt {shorten(self.text)}: it must be a finite number, as in"
                " 'apple:1.5'; a colon that belongs to the text is written \\:"
            )
        if math.isnan(self.stop) or self.stop == math.inf:
            raise UserError(
                f"stop {self.stop} of the prompt {shorten(self.text)}: it must be a finite number, as in"
                " 'blur:-0.3:-0.8'; a colon that belongs to the text is written \\:"
            )


def parse_prompts(text: str) -> list[Prompt]:
    r"""Prompts of ``text:weight:stop``, separated by ``|``; weight and stop may be left out, from the right.

    What follows a colon and is no number is text; ``\:``, ``\|`` and ``\\`` stand for the characters themselves.

    >>> parse("a castle:1.5 | 12:30 clock")
    [Prompt(text='a castle', weight=1.5, stop=-inf), Prompt(text='12:30 clock', weight=1.0, stop=-inf)]
    >>> parse(r"the train at 12\:30")
    [Prompt(text='the train at 12:30', weight=1.0, stop=-inf)]
    """
    parts = _split(text, "|")
    if len(parts) > 1 and not all(part.strip() for part in parts):
        raise UserError(
            f"an empty prompt beside a bar in {shorten(text)}: write text between the bars, or take the bar out"
        )
    return [_parse_prompt(part) for part in parts]


def format_prompts(prompts: Iterable[Prompt]) -> str:
    """The text that :func:`parse_list` reads as these prompts."""
    return " | ".join(_format_prompt(prompt) for prompt in prompts)


def first_attracting_text(prompts: Iterable[Prompt], *, pictures: bool = False) -> str:
    """Text of the first prompt with a positive weight, or "" if there is none: the caption for a transformer.

    pictures: whether picture prompts count too, with ``picture:FILE`` as their text.
    """
    return next((p.text for p in prompts if p.weight > 0 and (pictures or p.picture is None)), "")


def append_picture(text: str, path: str | Path) -> str:
    """The text of the prompts with a picture prompt for the file ``path`` added at the end."""
    return format_prompts([*parse_prompts(text), Prompt(f"picture:{path}")])


def _parse_prompt(part: str) -> Prompt:
    fields = _split(part, ":")
    numbers: list[float] = []
    while len(numbers) < 2 and len(fields) > 1 and _IS_NUMBER.fullmatch(fields[-1]):
        numbers.insert(0, float(fields.pop()))
    return Prompt(re.sub(r"\\([\\:|])", r"\1", ":".join(fields)).strip(), *numbers)


def _format_prompt(prompt: Prompt) -> str:
    text = re.sub(r"\\|\|", r"\\\g<0>", prompt.text.strip())
    text = _READ_AS_NUMBER.sub(r"\\:", text)
    numbers = [prompt.weight, prompt.stop] if prompt.stop != -math.inf else [prompt.weight]
    if numbers == [1.0]:
        return text
    return ":".join([text, *(repr(float(number)).removesuffix(".0") for number in numbers)])


def _split(text: str, separator: str) -> list[str]:
    """Split at the separator where no backslash stands before it; escapes stay as they are."""
    pieces = re.findall(r"\\.|.|\\", text, re.DOTALL)
    parts = [""]
    for piece in pieces:
        if piece == separator:
            parts.append("")
        else:
            parts[-1] += piece
    return parts
