"""User errors and the texts inside them: suggestions, shortened values, shortened exceptions.

Knows strings; nothing about what went wrong. It imports nothing of vqtools, so that every module can use it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MAX_VALUE_LENGTH = 80  # characters
_MAX_ERROR_LENGTH = 120


class UserError(ValueError):
    """A request that cannot be fulfilled. The message is one line: the value, the expectation, the way out.

    pointer: lines that mark the place of the error in a long value with a caret; empty if there is none.
    """

    pointer = ""


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return the end of an error about an unknown name: ``; did you mean 'x'?`` or ``; there are x, y``."""
    known = sorted(set(names))
    close = difflib.get_close_matches(name, known, n=3)
    if close:
        return "; did you mean " + " or ".join(f"'{match}'" for match in close) + "?"
    return "; there are " + ", ".join(known) if known else ""


def ellipsize(text: str, limit: int) -> str:
    """Return a text of at most ``limit`` characters: a longer one is cut and ends in an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def shorten(value: object) -> str:
    """Return the repr of a value for an error message: quoted, on one line, at most 80 characters."""
    return ellipsize(repr(value), _MAX_VALUE_LENGTH)


def shorten_error(error: BaseException) -> str:
    """Return the first line of an exception's message, at most 120 characters; its class name if it has no message."""
    lines = str(error).splitlines()
    return (lines[0] if lines else type(error).__name__)[:_MAX_ERROR_LENGTH]
