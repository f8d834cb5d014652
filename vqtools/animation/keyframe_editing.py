"""Keyframes as points that can be dragged: lists a schedule's keys and rewrites its text with one of them changed.

Knows texts, frames and numbers; nothing about widgets. Only the key that changes is rewritten: formulas, and keys at
formulas of max_f, keep their text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from vqtools.animation.keyframes import Curve, CurveError
from vqtools.core.errors import UserError


class Keyframe(NamedTuple):
    """A key: its frame, its value there, and whether that is a plain number, which can be dragged."""

    frame: int
    value: float
    draggable: bool


class _KeyText(NamedTuple):
    frame: str
    value: str


def list_keyframes(curve: Curve, last: int, seed: int = 0, **variables: float) -> list[Keyframe]:
    """The keys in the order in which they are written. last: the number of the last frame."""
    keyframes = []
    for frame, node, at in curve.keys:
        key = Curve(curve.text, ((frame, node, at),))
        number = key.sorted_keys(last, seed)[0][0]
        keyframes.append(Keyframe(number, key(number, last, seed, **variables), node.number))
    return keyframes


def sample_curve(
    curve: Curve, last: int, seed: int = 0, variables: Mapping[str, float] | None = None, count: int = 240
) -> list[tuple[float, float]]:
    """Sample (frame, value) at about ``count`` whole frames from 0 to the last; frames without a value are omitted."""
    step = max(1.0, last / max(1, count - 1))
    frames = sorted({round(k * step) for k in range(int(last / step) + 1)} | {last})
    samples = []
    for frame in frames:
        try:
            samples.append((float(frame), curve(frame, last, seed, **(variables or {}))))
        except (CurveError, KeyError):
            continue
    return samples


def move_keyframe(curve: Curve, index: int, frame: int, value: float) -> str:
    """The schedule's text with one key moved; ``index`` counts keys in the text. UserError for a formula."""
    if not 0 <= index < len(curve.keys):
        raise UserError(f"there is no key {index + 1} in {curve.text!r}; it has {len(curve.keys)}")
    if not curve.keys[index][1].number:
        raise UserError(f"key {index + 1} is a formula; edit it in the text field")
    keys = _split_keys(curve)
    keys[index] = _KeyText(str(frame), format_value(value))
    return _join_keys(keys)


def add_keyframe(curve: Curve, frame: int, value: float, last: int, seed: int = 0) -> str:
    """The schedule's text with one more key, inserted in the order of frames; a key at that frame is replaced."""
    frames = [key.frame for key in list_keyframes(curve, last, seed)]
    if frame in frames:
        return move_keyframe(curve, frames.index(frame), frame, value)
    keys = _split_keys(curve)
    keys.insert(sum(other < frame for other in frames), _KeyText(str(frame), format_value(value)))
    return _join_keys(keys)


def remove_keyframe(curve: Curve, index: int) -> str:
    """The schedule's text without a key; the last key always stays, as a value without a frame."""
    keys = _split_keys(curve)
    if len(keys) > 1:
        del keys[index]
    return keys[0].value if len(keys) == 1 else _join_keys(keys)


def format_value(value: float) -> str:
    """A number with at most four decimals, without trailing zeros."""
    return f"{value:.4f}".rstrip("0").rstrip(".") or "0"


def _split_keys(curve: Curve) -> list[_KeyText]:
    """The keys as they are written."""
    starts = [at for _, _, at in curve.keys]
    if len(starts) == 1 and ":" not in curve.text:
        return [_KeyText("0", curve.text.strip())]
    ends = [*starts[1:], None]
    pieces = [curve.text[start:end].strip().rstrip(",") for start, end in zip(starts, ends, strict=True)]
    parts = [piece.partition(":") for piece in pieces]
    return [_KeyText(frame.strip(), value.strip()) for frame, _, value in parts]


def _join_keys(keys: list[_KeyText]) -> str:
    """A schedule of keys; each value is put in brackets unless it has some."""
    return ", ".join(f"{key.frame}:{key.value if key.value.startswith('(') else f'({key.value})'}" for key in keys)
