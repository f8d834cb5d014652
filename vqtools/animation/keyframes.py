"""Keyframe curves from text: ``0:(1.02), 60:(1.0+0.05*sin(2*pi*t/30))`` becomes one number per frame.

Schedule strings mean what they mean in Deforum Stable Diffusion. They are parsed by recursive descent and never
evaluated as Python. Knows numbers and frames; nothing about motion or images.

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

from vqtools.core.errors import UserError, did_you_mean, shorten

Interpolation = Literal["linear", "smooth", "step"]

MAX_SCHEDULE_LENGTH = 100_000  # characters of a schedule
MAX_VALUE = 1e15
_MAX_DEPTH = 64  # nested brackets; four times as many nested operators
FORMULA_VARIABLES = ("t", "max_f", "s", "pi", "e")


def _where(condition: float, yes: float, no: float) -> float:
    return yes if condition else no


def _clip(x: float, low: float, high: float) -> float:
    return max(low, min(high, x))


def _saw(x: float) -> float:
    return x - math.floor(x)


def _pulse(x: float, width: float) -> float:
    return float(_saw(x) < width)


FUNCTIONS: dict[str, tuple[int, int, Callable[..., float]]] = {  # fewest and most arguments, and the function
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
_TOKEN_PATTERN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_]\w*)|(?P<quoted>\"[^\"]*\"|'[^']*')"
    r"|(?P<sign>\*\*|<=|>=|==|!=|[-+*/%<>&|~(),:]))",
    re.ASCII,
)
_CONSTANTS = {"pi": math.pi, "e": math.e}


class CurveError(UserError):
    """A schedule that cannot be parsed. ``pointer`` shows its line with a caret under ``column``, counted from 1."""

    def __init__(self, message: str, text: str, column: int) -> None:
        super().__init__(f"{message} at column {column}")
        self.column = column
        start = max(0, column - 50)
        excerpt = "".join(character if character.isprintable() else " " for character in text[start : column + 29])
        self.pointer = f"  {excerpt}\n  {' ' * (column - 1 - start)}^"


@dataclass(frozen=True)
class Curve:
    """A parsed schedule; call it with a frame and the number of the last frame.

    Between two plain numbers it is interpolated: linear, smooth (a monotone cubic through the keys) or step. A formula
    is evaluated at every frame until the next key. Before the first key and after the last one, the nearest counts.
    """

    text: str
    keys: tuple[tuple[Node, Node, int], ...] = field(repr=False)
    interpolation: Interpolation = "linear"

    @classmethod
    def parse(cls, text: str, *, interpolation: Interpolation = "linear", variables: Iterable[str] = ()) -> Curve:
        """Parse a schedule; ``variables`` are names beside t, max_f, s, pi and e. Raises CurveError."""
        if len(text) > MAX_SCHEDULE_LENGTH:
            raise CurveError(f"a schedule of {len(text)} characters; the limit is {MAX_SCHEDULE_LENGTH}", text[:80], 1)
        if not text.strip():
            raise CurveError("an empty schedule; write a number, or keys as in 0:(1), 60:(1.05)", text, 1)
        keys = tuple(_ScheduleParser(text, (*FORMULA_VARIABLES[:3], *variables)).schedule())
        if interpolation not in ("linear", "smooth", "step"):
            raise UserError(f"interpolation {shorten(interpolation)}: must be linear, smooth or step")
        return cls(text, keys, interpolation)

    @property
    def constant(self) -> float | None:
        """The value, if it is the same number on every frame; else None."""
        if len(self.keys) == 1 and self.keys[0][1].constant:
            return self._value(self.keys[0][1], {}, 0, self.keys[0][2])
        return None

    def __call__(self, t: float, last: int, seed: int = 0, **variables: float) -> float:
        """The value at frame t in [0, last]. Raises CurveError if a formula has no finite value there."""
        values = {"t": t, "max_f": float(last), "s": float(seed), **variables}
        keys = self.sorted_keys(last, seed)
        index = max((i for i, key in enumerate(keys) if key[0] <= t), default=0)
        frame, node, at = keys[index]
        if not node.number or t <= frame or index == len(keys) - 1 or self.interpolation == "step":
            return self._value(node, values, t, at)
        # as in Deforum, a neighbouring key that is a formula counts with its value at its own frame
        first = max(index - 1, 0)
        points = [(float(f), self._value(n, values | {"t": float(f)}, f, a)) for f, n, a in keys[first : index + 3]]
        interpolate = _interpolate_linear if self.interpolation == "linear" else _interpolate_smooth
        return interpolate(points, index - first, t)

    def sorted_keys(self, last: int, seed: int = 0) -> list[tuple[int, Node, int]]:
        """The keys (frame, value, index in the text), sorted by frame; the later of two at one frame counts."""
        values = {"max_f": float(last), "s": float(seed)}
        by_frame = {}
        for frame, node, at in self.keys:
            try:
                value = frame(values)
            except (KeyError, ArithmeticError, ValueError):
                value = math.nan
            if not (math.isfinite(value) and abs(value) <= 1e9):
                raise CurveError("a key's frame must be a whole number, or a formula of max_f", self.text, at + 1)
            by_frame[round(value)] = (round(value), node, at)
        return [by_frame[frame] for frame in sorted(by_frame)]

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
    """A monotone cubic (Fritsch and Carlson 1980): tangents are harmonic means of slopes (Butland), 0 at the ends."""
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(points)]

    def tangent(i: int) -> float:
        if not 0 < i < len(points) - 1 or slopes[i - 1] * slopes[i] <= 0:
            return 0.0
        return 2 / (1 / slopes[i - 1] + 1 / slopes[i])

    (x0, y0), (x1, y1) = points[here], points[here + 1]
    h = x1 - x0
    u = (t - x0) / h
    value = (  # the cubic Hermite basis
        (1 + 2 * u) * (1 - u) ** 2 * y0 + u * (1 - u) ** 2 * h * tangent(here)
        + u * u * (3 - 2 * u) * y1 + u * u * (u - 1) * h * tangent(here + 1)
    )  # fmt: skip
    return max(min(y0, y1), min(max(y0, y1), value))  # rounding errors must not leave the interval


@dataclass(frozen=True)
class Node:
    """A node of a parsed formula: a number, a variable, or a function (or operator) of other nodes."""

    value: float = 0.0
    name: str = ""  # of the variable
    function: Callable[..., float] | None = None
    arguments: tuple[Node, ...] = ()
    depth: int = 1

    def __call__(self, variables: Mapping[str, float]) -> float:
        """Evaluate with the values of all variables."""
        if self.function is not None:
            return float(self.function(*(argument(variables) for argument in self.arguments)))
        return float(variables[self.name]) if self.name else self.value

    @property
    def constant(self) -> bool:
        """Whether the formula contains no variable."""
        return not self.name and all(argument.constant for argument in self.arguments)

    @property
    def number(self) -> bool:
        """Whether the formula is a plain number, with or without a sign: only those are interpolated."""
        signed = self.function in (_UNARY_OPERATORS["-"], _UNARY_OPERATORS["+"]) and self.arguments[0].number
        return signed or (self.function is None and not self.name)


class _Token(NamedTuple):
    kind: str  # number, name, quoted, or the sign itself; "" for the end of the text
    text: str
    at: int


class _ScheduleParser:
    """Recursive descent, one method per rule of the grammar above.

    names: variables that formulas can use. whole, shift: the text that errors point into, and where ``text`` starts.
    """

    def __init__(self, text: str, names: Iterable[str], shift: int = 0, whole: str | None = None) -> None:
        self.text, self.names, self.shift, self.whole = text, tuple(names), shift, text if whole is None else whole
        self.tokens, self.next, self.open = self._tokenize(), 0, 0

    def _tokenize(self) -> list[_Token]:
        tokens, at, end = [], 0, len(self.text.rstrip())
        while at < end:
            match = _TOKEN_PATTERN.match(self.text, at)
            if match is None:
                start = at + len(self.text[at:]) - len(self.text[at:].lstrip())
                character = self.text[start]
                hint = "; write a power as **" if character == "^" else ""
                self.fail(f"{character!r} has no meaning in a formula{hint}", start)
            kind = match.lastgroup or ""
            text = match.group(kind)
            tokens.append(_Token(text if kind == "sign" else kind, text, match.start(kind)))
            at = match.end()
        return [*tokens, _Token("", "", end)]

    def fail(self, message: str, at: int | None = None) -> NoReturn:
        """Raise CurveError at an index of the text; by default at the next token."""
        at = self.tokens[self.next].at if at is None else at
        raise CurveError(message, self.whole, at + self.shift + 1)

    def peek(self, *kinds: str) -> bool:
        """Whether the next token is of one of these kinds."""
        return self.tokens[self.next].kind in kinds

    def take(self) -> _Token:
        """Consume the next token."""
        token = self.tokens[self.next]
        self.next += 1
        return token

    def expect(self, kind: str, what: str) -> _Token:
        """Consume a token of a kind, or fail."""
        if not self.peek(kind):
            text = self.tokens[self.next].text
            self.fail(f"expected {what}, found {text!r}" if text else f"the text ends where {what} is expected")
        return self.take()

    def make(self, function: Callable[..., float], *arguments: Node) -> Node:
        """A function node, unless it is nested too deeply."""
        depth = 1 + max(argument.depth for argument in arguments)
        if depth > _MAX_DEPTH * 4:
            self.fail(f"more than {_MAX_DEPTH * 4} nested operations; use a shorter formula")
        return Node(function=function, arguments=arguments, depth=depth)

    def formula(self) -> Node:
        """Comparisons joined by & and |."""
        self.open += 1
        if self.open > _MAX_DEPTH:
            self.fail(f"more than {_MAX_DEPTH} nested brackets; use a shorter formula")
        node = self.comparison()
        while self.peek("&", "|"):
            node = self.make(_BINARY_OPERATORS[self.take().kind], node, self.comparison())
        self.open -= 1
        return node

    def comparison(self) -> Node:
        """One comparison at most."""
        node = self.sum()
        if self.peek(*_COMPARISONS):
            node = self.make(_BINARY_OPERATORS[self.take().kind], node, self.sum())
            if self.peek(*_COMPARISONS):
                self.fail("two comparisons in a row; write (0 < t) & (t < 9)")
        return node

    def sum(self) -> Node:
        """Terms joined by + and -."""
        node = self.product()
        while self.peek("+", "-"):
            node = self.make(_BINARY_OPERATORS[self.take().kind], node, self.product())
        return node

    def product(self) -> Node:
        """Factors joined by *, / and %."""
        node = self.signed()
        while self.peek("*", "/", "%"):
            node = self.make(_BINARY_OPERATORS[self.take().kind], node, self.signed())
        return node

    def signed(self) -> Node:
        """Signs before a power: they bind weaker than **."""
        signs = []
        while self.peek("+", "-", "~"):
            signs.append(self.take().kind)
        node = self.power()
        for sign in reversed(signs):
            node = self.make(_UNARY_OPERATORS[sign], node)
        return node

    def power(self) -> Node:
        """``a ** b``, right-associative."""
        node = self.atom()
        if self.peek("**"):
            self.take()
            self.open += 1  # a**b**c… recurses as brackets do
            if self.open > _MAX_DEPTH:
                self.fail(f"more than {_MAX_DEPTH} nested powers; use a shorter formula")
            node = self.make(_BINARY_OPERATORS["**"], node, self.signed())
            self.open -= 1
        return node

    def atom(self) -> Node:
        """A number, a variable, a call, or a formula in brackets."""
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
        if name.text in _CONSTANTS:
            return Node(_CONSTANTS[name.text])
        if name.text not in self.names:
            hint = "; a function needs brackets" if name.text in FUNCTIONS else did_you_mean(name.text, self.names)
            self.fail(f"no variable is called {shorten(name.text)}{hint}", name.at)
        return Node(name=name.text)

    def call(self, name: _Token) -> Node:
        """A function call after its name."""
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
        """A key's frame: a formula of numbers, s and max_f, with or without quotes."""
        if not self.peek("quoted"):
            return self.formula()
        token = self.take()
        inner = _ScheduleParser(token.text[1:-1], self.names, self.shift + token.at + 1, self.whole)
        node = inner.formula()
        inner.expect("", "the end of the frame")
        return node

    def schedule(self) -> list[tuple[Node, Node, int]]:
        """The keys (frame, value, index in the text); a value without a frame is a key at frame 0."""
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
            if self.peek(""):  # a trailing comma is allowed
                return keys
            at = self.tokens[self.next].at
            first = self.frame()
