"""TODO: what this module is.

Split from vqtools.animation.scenes.
"""

from __future__ import annotations

import re
from typing import Any

from vqtools.animation.keyframe_parser import CurveError
from vqtools.core.errors import UserError

MAX_TEXT_LENGTH = 1_000_000  # characters of a lyrics file


def parse_mapping(text: str) -> list[tuple[str, Any]]:
    """Keys with their values in order: JSON, Python's dictionaries, and the notebooks' notation without braces.

    A value is a text, a list of the same form, or :class:`BracketedText` text. CurveError points at what is wrong.
    """
    return _MappingParser(text).mapping(end="")


class BracketedText(str):
    """A value that stood in round brackets."""


class _MappingParser:
    """JSON, Python's dictionaries and the notebooks' notation without outer braces, all read as one."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_TEXT_LENGTH:
            raise UserError(f"prompts_at of {len(text)} characters; at most {MAX_TEXT_LENGTH} are read")
        self.text, self.at = text, 0

    def fail(self, message: str) -> CurveError:
        return CurveError(f"prompts_at: {message}", self.text, self.at + 1)

    def peek(self) -> str:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        return self.text[self.at : self.at + 1]

    def take(self, sign: str, what: str) -> None:
        if self.peek() != sign:
            raise self.fail(f"expected {what}")
        self.at += 1

    def mapping(self, end: str, deep: int = 0) -> list[tuple[str, Any]]:
        """key: value, …; with or without braces at the outermost level."""
        if not end and self.peek() == "{":
            self.at += 1
            entries = self.mapping("}", deep)
            self.take("}", "a closing brace")
            if self.peek():
                raise self.fail("expected nothing after the closing brace")
            return entries
        entries = []
        while self.peek() not in (end, ""):
            key = self.word(":")
            self.take(":", "a colon after the frame or the text")
            entries.append((key, self.value(deep)))
            if self.peek() == ",":
                self.at += 1
            elif self.peek() not in (end, ""):
                raise self.fail("expected a comma before the next entry")
        if not entries:
            raise self.fail('expected texts by frame, as in {"0": "a forest", "120": "a city"}')
        return entries

    def value(self, deep: int) -> Any:
        if self.peek() == "{":
            if deep:
                raise self.fail("braces within braces within braces")
            self.at += 1
            entries = self.mapping("}", deep + 1)
            self.take("}", "a closing brace")
            return entries
        if self.peek() == "(":
            depth, begin = 0, self.at
            while self.at < len(self.text):
                depth += {"(": 1, ")": -1}.get(self.text[self.at], 0)
                self.at += 1
                if not depth:
                    return BracketedText(self.text[begin + 1 : self.at - 1])
            raise self.fail("expected a closing bracket")
        return self.word(",}" if deep else ",")

    def word(self, ends: str) -> str:
        """A quoted text, or what stands before one of the ends."""
        quote = self.peek()
        if quote and quote in "\"'":
            match = re.compile(rf"{quote}((?:\\.|[^\\{quote}])*){quote}", re.DOTALL).match(self.text, self.at)
            if match is None:
                raise self.fail("this quotation mark is never closed")
            self.at = match.end()
            # of JSON's escapes those that a prompt may need; \: and \| are the prompt's own
            return re.sub(r"\\([\\/\"'n])", lambda one: " " if one[1] == "n" else one[1], match[1])
        begin = self.at
        while self.at < len(self.text) and self.text[self.at] not in ends + "{}":
            self.at += 1
        word = self.text[begin : self.at].strip()
        if not word:
            raise self.fail("expected a text or a number")
        return word
