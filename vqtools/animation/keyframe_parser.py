"""TODO: what this module is.

Split from vqtools.animation.keyframes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from vqtools.core.errors import UserError, did_you_mean, shorten

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
