"""Small figures for panels, as SVG in the page's own colours.

Knows numbers; nothing about what they measure.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

_WIDTH, _HEIGHT = 210, 64
_SPARKLINE_SIZE = (72, 16)


def curve_svg(name: str, points: Sequence[tuple[float, float]], *, width: int = _WIDTH, height: int = _HEIGHT) -> str:
    """A named curve with its last value, from (x, y) pairs; pairs that are not finite are omitted."""
    good = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if not good:
        return ""
    line = _polyline_points(good, width, height)
    return (
        f'<figure class="vqtools-curve"><figcaption>{html.escape(name)} <b>{good[-1][1]:.3g}</b></figcaption>'
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f'<polyline fill="none" stroke="currentColor" stroke-width="1.5" points="{line}"/></svg></figure>'
    )


def sparkline_svg(name: str, points: Sequence[tuple[float, float]]) -> str:
    """A name, its last value and a line as high as the text, from (x, y) pairs; "" if there are none."""
    good = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if not good:
        return ""
    width, height = _SPARKLINE_SIZE
    value = f"{good[-1][1]:.2f}".replace("-", "\u2212")
    return (
        f'<span class="vqtools-spark" title="{html.escape(name)}"><span>{html.escape(name)}</span> <b>{value}</b>'
        f' <svg viewBox="0 0 {width} {height}" width="{width}" height="{height}"><polyline fill="none"'
        f' stroke="currentColor" stroke-width="1.5" points="{_polyline_points(good, width, height)}"/></svg></span>'
    )


def _polyline_points(points: Sequence[tuple[float, float]], width: int, height: int) -> str:
    """The points of a polyline that fills a width and a height in pixels."""
    low, high = min(y for _, y in points), max(y for _, y in points)
    first, last = points[0][0], points[-1][0]
    spread, length = (high - low) or 1.0, (last - first) or 1.0
    return " ".join(
        f"{(x - first) / length * width:.1f},{height - 3 - (y - low) / spread * (height - 6):.1f}" for x, y in points
    )
