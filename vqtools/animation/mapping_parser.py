"""Mappings from text: JSON, Python dictionaries, and the notation of animation notebooks without outer braces.

    {"0": "a forest", "120": "a burning forest:2"}
    0: a forest, 120: a burning forest
    'apple': {10: 1, 20: 0}, 'pear': {10: 0, 20: 1}
    10: (apple: 1 | pear: 0), 20: (apple: 0)

Knows text alone; what keys and values mean is the caller's.
"""

from __future__ import annotations

import re
from typing import Any

from vqtools.animation.keyframes import CurveError
from vqtools.core.errors import UserError

MAX_TEXT_LENGTH = 1_000_000  # characters, of a lyrics file too


class BracketedText(str):
    """A value that was written in round brackets."""


def parse_mapping(text: str) -> list[tuple[str, Any]]:
    """Parse a mapping to (key, value) in order.

    A value is a string, a nested mapping of the same form, or a :class:`BracketedText`. Raises CurveError, which points
    at the position of the error.
    """
    return _MappingParser(text).mapping(end="")


class _MappingParser:
    """Recursive descent over a text; ``at`` is the index of the next character."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_TEXT_LENGTH:
            raise UserError(f"prompts_at of {len(text)} characters; the limit is {MAX_TEXT_LENGTH}")
        self.text, self.at = text, 0

    def fail(self, message: str) -> CurveError:
        """An error at the next character."""
        return CurveError(f"prompts_at: {message}", self.text, self.at + 1)

    def peek(self) -> str:
        """The next character that is no space, or "" at the end."""
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        return self.text[self.at : self.at + 1]

    def take(self, sign: str, name: str) -> None:
        """Consume a sign, or fail."""
        if self.peek() != sign:
            raise self.fail(f"expected {name}")
        self.at += 1

    def mapping(self, end: str, depth: int = 0) -> list[tuple[str, Any]]:
        """key: value, …; at the outermost level with or without braces."""
        if not end and self.peek() == "{":
            entries = self._braces(depth)
            if self.peek():
                raise self.fail("expected nothing after the closing brace")
            return entries
        entries = []
        while self.peek() not in (end, ""):
            key = self.word(":")
            self.take(":", "a colon after the frame or the text")
            entries.append((key, self.value(depth)))
            if self.peek() == ",":
                self.at += 1
            elif self.peek() not in (end, ""):
                raise self.fail("expected a comma before the next entry")
        if not entries:
            raise self.fail('expected texts by frame, as in {"0": "a forest", "120": "a city"}')
        return entries

    def _braces(self, depth: int) -> list[tuple[str, Any]]:
        self.at += 1
        entries = self.mapping("}", depth)
        self.take("}", "a closing brace")
        return entries

    def value(self, depth: int) -> Any:
        """A mapping in braces, a text in brackets, or a word."""
        if self.peek() == "{":
            if depth:
                raise self.fail("braces are nested too deeply")
            return self._braces(depth + 1)
        if self.peek() == "(":
            return self._brackets()
        return self.word(",}" if depth else ",")

    def _brackets(self) -> BracketedText:
        level, begin = 0, self.at
        while self.at < len(self.text):
            level += {"(": 1, ")": -1}.get(self.text[self.at], 0)
            self.at += 1
            if not level:
                return BracketedText(self.text[begin + 1 : self.at - 1])
        raise self.fail("expected a closing bracket")

    def word(self, ends: str) -> str:
        """A quoted text, or the text before one of the ends."""
        quote = self.peek()
        if quote and quote in "\"'":
            match = re.compile(rf"{quote}((?:\\.|[^\\{quote}])*){quote}", re.DOTALL).match(self.text, self.at)
            if match is None:
                raise self.fail("this quotation mark is never closed")
            self.at = match.end()
            # the escapes of JSON that prompts need; \: and \| belong to the prompt's own grammar
            return re.sub(r"\\([\\/\"'n])", lambda escape: " " if escape[1] == "n" else escape[1], match[1])
        begin = self.at
        while self.at < len(self.text) and self.text[self.at] not in ends + "{}":
            self.at += 1
        word = self.text[begin : self.at].strip()
        if not word:
            raise self.fail("expected a text or a number")
        return word
