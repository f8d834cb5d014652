"""A schedule's keys as points that a hand can move, and the schedule's text again with one of them moved.

Knows texts, frames and numbers; nothing about widgets. Only the key that is touched is written anew: formulas, and keys
at formulas of max_f, stay as they were written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from vqtools.animation.keyframe_parser import CurveError
from vqtools.animation.keyframes import Curve
from vqtools.core.errors import UserError


class Keyframe(NamedTuple):
    """A key: its frame, its value there, and whether that is a plain number, which can be dragged."""

    frame: int
    value: float
    free: bool


class _KeyText(NamedTuple):
    frame: str
    value: str


def list_keyframes(curve: Curve, last: int, seed: int = 0, **variables: float) -> list[Keyframe]:
    """The keys in the order they are written."""
    found = []
    for frame, node, at in curve.keys:
        one = Curve(curve.text, ((frame, node, at),))
        place = one.sorted_keys(last, seed)[0][0]
        found.append(Keyframe(place, one(place, last, seed, **variables), node.number))
    return found


def sample_curve(curve: Curve, last: int, seed: int = 0, variables: Mapping[str, float] | None = None, count: int = 240) -> (
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


def move_keyframe(curve: Curve, index: int, frame: int, value: float) -> str:
    """The schedule with one key, by its number in the text, at another place. UserError where that is a formula."""
    if not 0 <= index < len(curve.keys):
        raise UserError(f"there is no key {index + 1} in {curve.text!r}; it has {len(curve.keys)}")
    if not curve.keys[index][1].number:
        raise UserError(f"key {index + 1} is a formula; write it in the field")
    keys = _split_keys(curve)
    keys[index] = _KeyText(str(frame), format_value(value))
    return _join_keys(keys, one=False)


def add_keyframe(curve: Curve, frame: int, value: float, last: int, seed: int = 0) -> str:
    """The schedule with a key more, in its place by frames; one that stands on this frame is replaced."""
    there = [one.frame for one in list_keyframes(curve, last, seed)]
    keys = _split_keys(curve)
    if frame in there:
        return move_keyframe(curve, there.index(frame), frame, value)
    keys.insert(sum(other < frame for other in there), _KeyText(str(frame), format_value(value)))
    return _join_keys(keys, one=False)


def remove_keyframe(curve: Curve, index: int) -> str:
    """The schedule without a key; the last one stays."""
    keys = _split_keys(curve)
    if len(keys) > 1:
        del keys[index]
    return _join_keys(keys, one=len(keys) == 1)


def format_value(value: float) -> str:
    """A number as a person would write it: at most four places behind the point."""
    return f"{value:.4f}".rstrip("0").rstrip(".") or "0"


def _split_keys(curve: Curve) -> list[_KeyText]:
    """The keys as they are written."""
    starts = [at for _, _, at in curve.keys]
    if len(starts) == 1 and ":" not in curve.text:
        return [_KeyText("0", curve.text.strip())]
    pieces = [curve.text[a:b].strip().rstrip(",") for a, b in zip(starts, [*starts[1:], None], strict=True)]
    keys = []
    for piece in pieces:
        frame, _, value = piece.partition(":")
        keys.append(_KeyText(frame.strip(), value.strip()))
    return keys


def _join_keys(keys: list[_KeyText], *, one: bool) -> str:
    if one:
        return keys[0].value
    return ", ".join(f"{key.frame}:{key.value if key.value.startswith('(') else f'({key.value})'}" for key in keys)
