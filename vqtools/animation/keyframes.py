"""Curves from text: ``0:(1.02), 60:(1.0+0.05*sin(2*pi*t/30))`` becomes one number a frame.

A grammar of its own, parsed by recursive descent and never evaluated as Python; Deforum's strings mean here what they
mean there. Knows numbers and frames; nothing about motion or pictures.

    schedule  := formula | key ("," key)*
    key       := frame ":" formula                       frame: a formula, also in quotes: "max_f-1"
    formula   := sum (("<" | "<=" | ">" | ">=" | "==" | "!=") sum)? (("&" | "|") …)*
    sum       := product (("+" | "-") product)*
    product   := signed (("*" | "/" | "%") signed)*
    signed    := ("+" | "-" | "~")* power
    power     := atom ("**" signed)?
    atom      := number | name | name "(" formula ("," formula)* ")" | "(" formula ")"
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from vqtools.animation.keyframe_parser import MAX_VALUE, CurveError, Node, ScheduleParser
from vqtools.core.errors import UserError, shorten

Interpolation = Literal["linear", "smooth", "step"]

FORMULA_VARIABLES = ("t", "max_f", "s", "pi", "e")
MAX_SCHEDULE_LENGTH = 100_000  # characters of a schedule


@dataclass(frozen=True)
class Curve:
    """One number a frame: call it with the frame and the last frame's number.

    Between two numbers it goes as ``interpolation`` says: linear, smooth (a monotone cubic: through the keys, never
    beyond them) or step. A formula holds on every frame until the next key. Before the first key and after the last
    the nearest one counts.
    """

    text: str
    keys: tuple[tuple[Node, Node, int], ...] = field(repr=False)
    interpolation: Interpolation = "linear"

    @classmethod
    def parse(cls, text: str, *, interpolation: Interpolation = "linear", variables: Iterable[str] = ()) -> Curve:
        """Read a schedule; ``variables`` are names beside t, max_f, s, pi and e. CurveError points at what is wrong."""
        if len(text) > MAX_SCHEDULE_LENGTH:
            raise CurveError(
                f"a schedule of {len(text)} characters; at most {MAX_SCHEDULE_LENGTH} are read", text[:80], 1
            )
        if not text.strip():
            raise CurveError("an empty schedule; write a number, or keys as in 0:(1), 60:(1.05)", text, 1)
        parser = ScheduleParser(text, (*FORMULA_VARIABLES[:3], *variables))
        keys = tuple(parser.schedule())
        if interpolation not in ("linear", "smooth", "step"):
            raise UserError(f"interpolation {shorten(interpolation)}: must be linear, smooth or step")
        return cls(text, keys, interpolation)

    @property
    def constant(self) -> float | None:
        """The value, where it is the same number on every frame."""
        if len(self.keys) == 1 and self.keys[0][1].constant:
            return self._value(self.keys[0][1], {}, 0, self.keys[0][2])
        return None

    def __call__(self, t: float, last: int, seed: int = 0, **variables: float) -> float:
        """The value at frame t of 0 … last. CurveError where a formula has no finite value."""
        known = {"t": t, "max_f": float(last), "s": float(seed), **variables}
        keys = self.sorted_keys(last, seed)
        index = max((i for i, key in enumerate(keys) if key[0] <= t), default=0)
        frame, node, at = keys[index]
        if not node.number or t <= frame or index == len(keys) - 1 or self.interpolation == "step":
            return self._value(node, known, t, at)
        # a formula's neighbour is its value on the frame where it begins, as Deforum has it
        around = [
            (float(f), self._value(n, known | {"t": float(f)}, f, a)) for f, n, a in keys[max(index - 1, 0) : index + 3]
        ]
        here = index - max(index - 1, 0)
        return (
            _interpolate_linear(around, here, t)
            if self.interpolation == "linear"
            else _interpolate_smooth(around, here, t)
        )

    def sorted_keys(self, last: int, seed: int = 0) -> list[tuple[int, Node, int]]:
        """The keys by frame: (frame, value, where it stands). The later of two on one frame counts."""
        known = {"max_f": float(last), "s": float(seed)}
        placed = {}
        for frame, node, at in self.keys:
            try:
                value = frame(known)
            except (KeyError, ArithmeticError, ValueError):
                value = math.nan
            if not (math.isfinite(value) and abs(value) <= 1e9):
                raise CurveError("a key's frame must be a whole number, or a formula of max_f", self.text, at + 1)
            placed[round(value)] = (round(value), node, at)
        return [placed[frame] for frame in sorted(placed)]

    def _value(self, node: Node, variables: Mapping[str, float], t: float, at: int) -> float:
        try:
            value = node(variables)
        except (ArithmeticError, ValueError, TypeError):
            value = math.nan
        if not abs(value) <= MAX_VALUE:
            raise CurveError(f"the formula has no value below {MAX_VALUE:g} on frame {t:g}", self.text, at + 1)
        return value


def _interpolate_linear(points: list[tuple[float, float]], here: int, t: float) -> float:
    (x0, y0), (x1, y1) = points[here], points[here + 1]
    return y0 + (y1 - y0) * (t - x0) / (x1 - x0)


def _interpolate_smooth(points: list[tuple[float, float]], here: int, t: float) -> float:
    """Fritsch and Carlson's monotone cubic, with harmonic means as slopes, flat at both ends."""
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(points)]

    def tangent(i: int) -> float:
        if not 0 < i < len(points) - 1 or slopes[i - 1] * slopes[i] <= 0:
            return 0.0
        return 2 / (1 / slopes[i - 1] + 1 / slopes[i])

    (x0, y0), (x1, y1) = points[here], points[here + 1]
    h = x1 - x0
    u = (t - x0) / h
    value = (
        (1 + 2 * u) * (1 - u) ** 2 * y0 + u * (1 - u) ** 2 * h * tangent(here)
        + u * u * (3 - 2 * u) * y1 + u * u * (u - 1) * h * tangent(here + 1)
    )  # fmt: skip
    return max(min(y0, y1), min(max(y0, y1), value))  # rounding must not go beyond the keys
