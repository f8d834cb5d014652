"""A schedule's keys as points that a hand can move, and the schedule's text again with one of them moved.

Knows texts, frames and numbers; nothing about widgets. Only the key that is touched is written anew: formulas, and keys
at formulas of max_f, stay as they were written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from vqtools.animation.keyframes import Curve, CurveError
from vqtools.settings import UserError


class Point(NamedTuple):
    """A key: its frame, its value there, and whether that is a plain number, which can be dragged."""

    frame: int
    value: float
    free: bool


class _Key(NamedTuple):
    frame: str
    value: str


def points(curve: Curve, last: int, seed: int = 0, **variables: float) -> list[Point]:
    """The keys in the order they are written."""
    found = []
    for frame, node, at in curve.keys:
        one = Curve(curve.text, ((frame, node, at),))
        place = one.placed(last, seed)[0][0]
        found.append(Point(place, one(place, last, seed, **variables), node.number))
    return found


def values(curve: Curve, last: int, seed: int = 0, variables: Mapping[str, float] | None = None, count: int = 240) -> (
    list[tuple[float, float]]
):  # fmt: skip
    """(frame, value) on at most ``count`` whole frames from 0 to the last; those without a value are left out."""
    step = max(1.0, last / max(1, count - 1))
    frames = sorted({round(k * step) for k in range(int(last / step) + 1)} | {last})
    found = []
    for frame in frames:
        try:
            found.append((float(frame), curve(frame, last, seed, **(variables or {}))))
        except (CurveError, KeyError):
            continue
    return found


def moved(curve: Curve, index: int, frame: int, value: float) -> str:
    """The schedule with one key, by its number in the text, at another place. UserError where that is a formula."""
    if not 0 <= index < len(curve.keys):
        raise UserError(f"there is no key {index + 1} in {curve.text!r}; it has {len(curve.keys)}")
    if not curve.keys[index][1].number:
        raise UserError(f"key {index + 1} is a formula; write it in the field")
    keys = _written(curve)
    keys[index] = _Key(str(frame), short(value))
    return _text(keys, one=False)


def added(curve: Curve, frame: int, value: float, last: int, seed: int = 0) -> str:
    """The schedule with a key more, in its place by frames; one that stands on this frame is replaced."""
    there = [one.frame for one in points(curve, last, seed)]
    keys = _written(curve)
    if frame in there:
        return moved(curve, there.index(frame), frame, value)
    keys.insert(sum(other < frame for other in there), _Key(str(frame), short(value)))
    return _text(keys, one=False)


def removed(curve: Curve, index: int) -> str:
    """The schedule without a key; the last one stays."""
    keys = _written(curve)
    if len(keys) > 1:
        del keys[index]
    return _text(keys, one=len(keys) == 1)


def short(value: float) -> str:
    """A number as a person would write it: at most four places behind the point."""
    return f"{value:.4f}".rstrip("0").rstrip(".") or "0"


def _written(curve: Curve) -> list[_Key]:
    """The keys as they are written."""
    starts = [at for _, _, at in curve.keys]
    if len(starts) == 1 and ":" not in curve.text:
        return [_Key("0", curve.text.strip())]
    pieces = [curve.text[a:b].strip().rstrip(",") for a, b in zip(starts, [*starts[1:], None], strict=True)]
    keys = []
    for piece in pieces:
        frame, _, value = piece.partition(":")
        keys.append(_Key(frame.strip(), value.strip()))
    return keys


def _text(keys: list[_Key], *, one: bool) -> str:
    if one:
        return keys[0].value
    return ", ".join(f"{key.frame}:{key.value if key.value.startswith('(') else f'({key.value})'}" for key in keys)
