"""TODO: what this module is.

Split from vqtools.jobs, vqtools.settings.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MAX_VALUE_LENGTH = 80


class UserError(ValueError):
    """What was asked is impossible. One line: the value, the expectation, the way out.

    ``pointer``: where in a long value, as lines with a caret under the place; empty where there is none.
    """

    pointer = ""


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The way out of an unknown name: `; did you mean 'x'?` or `; there are x, y`."""
    known = sorted(set(names))
    close = difflib.get_close_matches(name, known, n=3)
    if close:
        return "; did you mean " + " or ".join(f"'{one}'" for one in close) + "?"
    return "; there are " + ", ".join(known) if known else ""


def shorten(value: object) -> str:
    """A value as it stands in an error: quoted, on one line, at most 80 characters."""
    text = repr(value)
    return text if len(text) <= _MAX_VALUE_LENGTH else text[: _MAX_VALUE_LENGTH - 1] + "…"


def shorten_error(error: BaseException) -> str:
    """An exception's first line, at most 120 characters."""
    lines = str(error).splitlines()
    return (lines[0] if lines else type(error).__name__)[:120]
