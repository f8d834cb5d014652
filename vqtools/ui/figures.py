"""Small figures for panels, as SVG in the page's own colours.

Knows numbers; nothing about what they measure.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

_WIDTH, _HEIGHT = 210, 64


def curve(name: str, points: Sequence[tuple[float, float]], *, width: int = _WIDTH, height: int = _HEIGHT) -> str:
    """A named curve over steps with its last value: (x, y) pairs, those that are not finite left out."""
    good = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if not good:
        return ""
    low, high = min(y for _, y in good), max(y for _, y in good)
    first, last = good[0][0], good[-1][0]
    spread, length = (high - low) or 1.0, (last - first) or 1.0
    line = " ".join(
        f"{(x - first) / length * width:.1f},{height - 3 - (y - low) / spread * (height - 6):.1f}" for x, y in good
    )
    return (
        f'<figure class="vqtools-curve"><figcaption>{html.escape(name)} <b>{good[-1][1]:.3g}</b></figcaption>'
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f'<polyline fill="none" stroke="currentColor" stroke-width="1.5" points="{line}"/></svg></figure>'
    )
