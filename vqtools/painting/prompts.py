"""Prompt syntax: ``a castle in the clouds:1.5 | blur:-0.3:-0.8`` to prompts with weights and stops, and back.

Knows text and numbers; nothing about networks. It opens no file: of a picture prompt it knows only the file's name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from vqtools.core.errors import UserError, shorten

_NUMBER = (
    r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[nN][aA][nN]|[iI][nN][fF](?:[iI][nN][iI][tT][yY])?)"
)
_IS_NUMBER = re.compile(rf"\s*{_NUMBER}\s*")
_READ_AS_NUMBER = re.compile(rf":(?=\s*{_NUMBER}\s*(?::|\Z))")  # a colon at which parse_prompts would split


@dataclass(frozen=True)
class Prompt:
    """A text, or a picture as ``picture:FILE``, with its weight and stop.

    weight: factor of the distance between picture and text in the loss; a negative weight repels.
    stop: sign(weight) times the spherical distance at which the gradient ends; -inf for never.
    """

    text: str
    weight: float = 1.0
    stop: float = -math.inf

    @property
    def picture(self) -> str | None:
        """The file name of a picture prompt, ``picture:castle.png``; None for a text."""
        kind, colon, path = self.text.partition(":")
        return path.strip() if colon and kind.strip().lower() == "picture" else None

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise UserError("empty prompt: write what the picture should show, as in 'a red apple'")
        if self.picture == "":
            raise UserError("picture prompt without a file: name it, as in 'picture:castle.png'")
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
    r"""Parse prompts of the form ``text:weight:stop``, separated by ``|``; stop, or weight and stop, may be omitted.

    What follows a colon and is not a number belongs to the text; ``\:``, ``\|`` and ``\\`` stand for the characters
    themselves. Raises UserError for an empty text and for weights and stops that are not finite. The last texts are
    cached, so asking again for the same text does not parse it again.

    >>> parse_prompts("a castle:1.5 | 12:30 clock")
    [Prompt(text='a castle', weight=1.5, stop=-inf), Prompt(text='12:30 clock', weight=1.0, stop=-inf)]
    >>> parse_prompts(r"the train at 12\:30")
    [Prompt(text='the train at 12:30', weight=1.0, stop=-inf)]
    """
    return list(_parse_cached(text))


@lru_cache(maxsize=32)
def _parse_cached(text: str) -> tuple[Prompt, ...]:
    parts = _split(text, "|")
    if len(parts) > 1 and not all(part.strip() for part in parts):
        raise UserError(
            f"an empty prompt beside a | in {shorten(text)}: write text between the bars, or remove the bar"
        )
    return tuple(_parse_prompt(part) for part in parts)


def format_prompts(prompts: Iterable[Prompt]) -> str:
    """The text that :func:`parse_prompts` parses into these prompts."""
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
    """Split at separators that are not escaped by a backslash; escapes stay as they are."""
    pieces = re.findall(r"\\.|.|\\", text, re.DOTALL)
    parts = [""]
    for piece in pieces:
        if piece == separator:
            parts.append("")
        else:
            parts[-1] += piece
    return parts
