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
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, NamedTuple, NoReturn

from vqtools.settings import UserError, did_you_mean, shorten

Interpolation = Literal["linear", "smooth", "step"]

FORMULA_VARIABLES = ("t", "max_f", "s", "pi", "e")
MAX_SCHEDULE_LENGTH = 100_000  # characters of a schedule
_MAX_DEPTH = 64  # brackets within brackets, or operators on top of each other
MAX_VALUE = 1e15


class CurveError(UserError):
    """A schedule that can't be read. ``pointer``: its line, and a caret under the ``column`` (counted from 1)."""

    def __init__(self, message: str, text: str, column: int) -> None:
        super().__init__(f"{message} at column {column}")
        self.column = column
        start = max(0, column - 50)
        shown = "".join(character if character.isprintable() else " " for character in text[start : column + 29])
        self.pointer = f"  {shown}\n  {' ' * (column - 1 - start)}^"


def _where(condition: float, yes: float, no: float) -> float:
    return yes if condition else no


def _clip(x: float, low: float, high: float) -> float:
    return max(low, min(high, x))


def _saw(x: float) -> float:
    return x - math.floor(x)


def _pulse(x: float, width: float) -> float:
    return float(_saw(x) < width)


FUNCTIONS: dict[str, tuple[int, int, Callable[..., float]]] = {  # least and most arguments, and what is computed
    **{name: (1, 1, getattr(math, name)) for name in (
        "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "exp", "expm1", "log10", "log2", "log1p",
        "sqrt", "floor", "ceil",
    )},
    **{f"arc{name}": (1, 1, getattr(math, f"a{name}")) for name in ("sin", "cos", "tan")},
    "atan2": (2, 2, math.atan2), "arctan2": (2, 2, math.atan2), "log": (1, 2, math.log), "abs": (1, 1, abs),
    "round": (1, 1, round), "sign": (1, 1, lambda x: math.copysign(1, x) if x else 0.0), "fmod": (2, 2, math.fmod),
    "pow": (2, 2, math.pow), "min": (1, 99, min), "max": (1, 99, max), "where": (3, 3, _where), "clip": (3, 3, _clip),
    "saw": (1, 1, _saw), "pulse": (2, 2, _pulse),
}  # fmt: skip

_BINARY_OPERATORS: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b,
    "%": lambda a, b: a % b, "**": math.pow,
    "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b, "!=": lambda a, b: a != b,
    "&": lambda a, b: bool(a) and bool(b), "|": lambda a, b: bool(a) or bool(b),
}  # fmt: skip
_UNARY_OPERATORS: dict[str, Callable[[float], float]] = {"-": lambda a: -a, "+": lambda a: a, "~": lambda a: not a}
_COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")


@dataclass(frozen=True)
class Node:
    """A number, a variable, or a function (operators too) of other nodes."""

    value: float = 0.0
    name: str = ""  # of a variable
    function: Callable[..., float] | None = None
    arguments: tuple[Node, ...] = ()
    depth: int = 1

    def __call__(self, variables: Mapping[str, float]) -> float:
        if self.function is not None:
            return float(self.function(*(argument(variables) for argument in self.arguments)))
        return float(variables[self.name]) if self.name else self.value

    @property
    def constant(self) -> bool:
        return not self.name and all(argument.constant for argument in self.arguments)

    @property
    def number(self) -> bool:
        """A plain number with or without a sign: what Deforum interpolates between."""
        signed = self.function in (_UNARY_OPERATORS["-"], _UNARY_OPERATORS["+"]) and self.arguments[0].number
        return signed or (self.function is None and not self.name)


class _Token(NamedTuple):
    kind: str  # number, name, quoted, or the sign itself; "" at the end
    text: str
    at: int


_TOKEN_PATTERN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_]\w*)|(?P<quoted>\"[^\"]*\"|'[^']*')"
    r"|(?P<sign>\*\*|<=|>=|==|!=|[-+*/%<>&|~(),:]))",
    re.ASCII,
)


class ScheduleParser:
    def __init__(self, text: str, names: Iterable[str], shift: int = 0, whole: str | None = None) -> None:
        self.text, self.names, self.shift, self.whole = text, tuple(names), shift, text if whole is None else whole
        self.tokens, self.next, self.open = self._split(), 0, 0

    def _split(self) -> list[_Token]:
        tokens, at, end = [], 0, len(self.text.rstrip())
        while at < end:
            match = _TOKEN_PATTERN.match(self.text, at)
            if match is None:
                start = at + len(self.text[at:]) - len(self.text[at:].lstrip())
                odd = self.text[start]
                hint = "; a power is written **" if odd == "^" else ""
                self.fail(f"{odd!r} has no meaning in a formula{hint}", start)
            kind = match.lastgroup or ""
            text = match.group(kind)
            tokens.append(_Token(text if kind == "sign" else kind, text, match.start(kind)))
            at = match.end()
        return [*tokens, _Token("", "", end)]

    def fail(self, message: str, at: int | None = None) -> NoReturn:
        at = self.tokens[self.next].at if at is None else at
        raise CurveError(message, self.whole, at + self.shift + 1)

    def peek(self, *kinds: str) -> bool:
        return self.tokens[self.next].kind in kinds

    def take(self) -> _Token:
        token = self.tokens[self.next]
        self.next += 1
        return token

    def expect(self, kind: str, what: str) -> _Token:
        if not self.peek(kind):
            found = self.tokens[self.next].text
            self.fail(f"expected {what}, found {found!r}" if found else f"the text ends where {what} is expected")
        return self.take()

    def make(self, function: Callable[..., float], *arguments: Node) -> Node:
        depth = 1 + max(argument.depth for argument in arguments)
        if depth > _MAX_DEPTH * 4:
            self.fail(f"more than {_MAX_DEPTH * 4} operations on top of each other; use a shorter formula")
        return Node(function=function, arguments=arguments, depth=depth)

    def formula(self) -> Node:
        self.open += 1
        if self.open > _MAX_DEPTH:
            self.fail(f"more than {_MAX_DEPTH} brackets within brackets; use a shorter formula")
        node = self.comparison()
        while self.peek("&", "|"):
            node = self.make(_BINARY_OPERATORS[self.take().kind], node, self.comparison())
        self.open -= 1
        return node

    def comparison(self) -> Node:
        node = self.sum()
        if self.peek(*_COMPARISONS):
            node = self.make(_BINARY_OPERATORS[self.take().kind], node, self.sum())
            if self.peek(*_COMPARISONS):
                self.fail("two comparisons in a row; write (0 < t) & (t < 9)")
        return node

    def sum(self) -> Node:
        node = self.product()
        while self.peek("+", "-"):
            node = self.make(_BINARY_OPERATORS[self.take().kind], node, self.product())
        return node

    def product(self) -> Node:
        node = self.signed()
        while self.peek("*", "/", "%"):
            node = self.make(_BINARY_OPERATORS[self.take().kind], node, self.signed())
        return node

    def signed(self) -> Node:
        signs = []
        while self.peek("+", "-", "~"):
            signs.append(self.take().kind)
        node = self.power()
        for sign in reversed(signs):
            node = self.make(_UNARY_OPERATORS[sign], node)
        return node

    def power(self) -> Node:
        node = self.atom()
        if self.peek("**"):
            self.take()
            self.open += 1  # a**b**c… goes as deep as brackets do
            if self.open > _MAX_DEPTH:
                self.fail(f"more than {_MAX_DEPTH} powers of powers; use a shorter formula")
            node = self.make(_BINARY_OPERATORS["**"], node, self.signed())
            self.open -= 1
        return node

    def atom(self) -> Node:
        if self.peek("number"):
            token = self.take()
            value = float(token.text)
            if value > MAX_VALUE:
                self.fail(f"{shorten(token.text)} is larger than {MAX_VALUE:g}", token.at)
            return Node(value)
        if self.peek("("):
            self.take()
            node = self.formula()
            self.expect(")", "a closing bracket")
            return node
        name = self.expect("name", "a number, a variable or a function")
        if self.peek("("):
            return self.call(name)
        if name.text == "pi" or name.text == "e":
            return Node(math.pi if name.text == "pi" else math.e)
        if name.text not in self.names:
            way_out = "; a function wants brackets" if name.text in FUNCTIONS else did_you_mean(name.text, self.names)
            self.fail(f"no variable is called {shorten(name.text)}{way_out}", name.at)
        return Node(name=name.text)

    def call(self, name: _Token) -> Node:
        if name.text not in FUNCTIONS:
            self.fail(f"no function is called {shorten(name.text)}{did_you_mean(name.text, FUNCTIONS)}", name.at)
        least, most, function = FUNCTIONS[name.text]
        self.take()
        arguments = [self.formula()]
        while self.peek(","):
            self.take()
            arguments.append(self.formula())
        self.expect(")", "a comma or a closing bracket")
        if not least <= len(arguments) <= most:
            count = str(least) if least == most else f"{least} to {most}"
            self.fail(f"{name.text} takes {count} value{'s' * (most > 1)}, not {len(arguments)}", name.at)
        return self.make(function, *arguments)

    def frame(self) -> Node:
        """A key's frame: a formula of constants and max_f, with or without quotes."""
        if not self.peek("quoted"):
            return self.formula()
        token = self.take()
        inner = ScheduleParser(token.text[1:-1], self.names, self.shift + token.at + 1, self.whole)
        node = inner.formula()
        inner.expect("", "the end of the frame")
        return node

    def schedule(self) -> list[tuple[Node, Node, int]]:
        """(frame, value, where it stands); a value alone stands at frame 0."""
        first = self.frame()
        if self.peek(""):
            return [(Node(0.0), first, self.shift)]
        keys = []
        at = 0
        while True:
            self.expect(":", "a colon after the frame, as in 0:(1.02)")
            keys.append((first, self.formula(), at))
            if self.peek(""):
                return keys
            self.expect(",", "a comma before the next key")
            if self.peek(""):  # a comma at the end forgives
                return keys
            at = self.tokens[self.next].at
            first = self.frame()


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
