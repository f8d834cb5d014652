"""Texts of limited length for labels.

Knows strings alone.
"""

from __future__ import annotations


def ellipsize(text: str, limit: int) -> str:
    """The text, cut to ``limit`` characters with an ellipsis at the end if it is longer."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
